/* test_coco.c: annotation files: lists in any order, annotations by picture, and files and objects that are not what they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/coco.h"

#define PICTURES "\"images\": [{\"id\": 4, \"file_name\": \"a.jpg\", \"width\": 100, \"height\": 50}, {\"id\": 2, \"file_name\": \"b.jpg\", \"width\": 10, \"height\": 10}]"
#define CATEGORIES "\"categories\": [{\"id\": 9, \"name\": \"cat\"}, {\"id\": 3, \"name\": \"dog\"}]"

static void annotations_come_by_picture(void **state) {
    (void)state;
    static const char k_text[] = "{\"info\": {\"x\": [1, \"]}\\\"\"]}, \"annotations\": [\n"
                                 "{\"id\": 1, \"image_id\": 2, \"category_id\": 3, \"bbox\": [1, 2, 3, 4]},\n"
                                 "{\"id\": 2, \"image_id\": 4, \"category_id\": 9, \"bbox\": [-5, 40.5, 20, 20], \"iscrowd\": 1, \"segmentation\": []},\n"
                                 "{\"id\": 3, \"image_id\": 77, \"category_id\": 9, \"bbox\": [0, 0, 1, 1]},\n"
                                 "{\"id\": 4, \"image_id\": 2, \"category_id\": 9, \"bbox\": [0, 0, 1, 1]}],\n" PICTURES ", \"licenses\": [], " CATEGORIES "}";
    coco_set s;
    coco_object o;
    fault f;
    if (!coco_parse(&s, k_text, strlen(k_text), "x.json", &f)) fail_msg("%s", f.text);
    assert_int_equal(s.n_pictures, 2);
    assert_int_equal(s.n_categories, 2);
    assert_int_equal(s.n_annotations, 3);
    assert_int_equal(s.n_strays, 1);
    assert_string_equal(s.pictures[0].file_name, "a.jpg");
    assert_int_equal(s.pictures[0].n, 1);
    assert_int_equal(s.pictures[1].first, 1);
    assert_int_equal(s.pictures[1].n, 2);
    assert_true(coco_object_read(&o, &s, 0, &f));
    assert_int_equal(o.id, 2);
    assert_int_equal(o.category, 0);
    assert_true(o.crowd && o.segmentation);
    assert_true(o.x0 == 0 && o.y0 == 40.5 && o.x1 == 15 && o.y1 == 50); /* what is inside the picture */
    coco_object_free(&o);
    assert_true(coco_object_read(&o, &s, 1, &f));
    assert_int_equal(o.id, 1);
    assert_int_equal(o.category, 1);
    assert_false(o.crowd || o.segmentation);
    coco_object_free(&o);
    assert_true(coco_object_read(&o, &s, 2, &f));
    assert_int_equal(o.id, 4);
    coco_object_free(&o);
    coco_free(&s);
}

static void bad_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } k_files[] = {
        {"", "x.json: byte 0: an object expected"},
        {"[]", "an object expected"},
        {"{}", "a key expected"},
        {"{" PICTURES ", " CATEGORIES "}", "no \"annotations\""},
        {"{" PICTURES ", " PICTURES "}", "images: comes twice"},
        {"{" PICTURES, "',' or '}' expected"},
        {"{\"images\" 3}", "':' expected"},
        {"{\"images\": 3}", "a list expected"},
        {"{\"images\": [", "the end of a value expected"},
        {"{\"images\": [}", "a value expected"},
        {"{\"annotations\": [{}}", "',' or ']' expected"},
        {"{\"images\": [\"x", "the end of a string expected"},
        {"{\"images\": [{\"id\": 1]}]}", "x.json: images[0]: "},
        {"{\"images\": [{\"id\": 1}]}", "images[0]: an id, width, height and file_name expected"},
        {"{\"images\": [[]]}", "images[0]: an id, width"},
        {"{\"images\": [{\"id\": 1, \"file_name\": \"a\", \"width\": 0, \"height\": 4}]}", "images: id 1: sides of 1 to"},
        {"{\"images\": [{\"id\": 1, \"file_name\": \"a\", \"width\": 1000000, \"height\": 1000000}]}", "images: id 1: sides of 1 to"},
        {"{\"images\": [{\"id\": 1, \"file_name\": \"a\", \"width\": 4611686018427387904, \"height\": 4}]}", "images: id 1: sides of 1 to"},
        {"{\"images\": [{\"id\": 1, \"file_name\": \"\", \"width\": 1, \"height\": 4}]}", "images[0]: an id"},
        {"{\"categories\": [{\"id\": 1, \"name\": \"a ; b\"}]}", "a label has no ';'"},
        {"{\"categories\": [{\"id\": \"1\", \"name\": \"a\"}]}", "categories[0]: an id and a name expected"},
        {"{" PICTURES ", " CATEGORIES ", \"annotations\": [{\"id\" 3}]}", "annotations[0]: "},
        {"{\"images\": [{\"id\": 1, \"file_name\": \"a\", \"width\": 1, \"height\": 4}, {\"id\": 1, \"file_name\": \"a\", \"width\": 1, \"height\": 4}], " CATEGORIES
         ", \"annotations\": []}",
         "images: id 1 comes twice"},
    };
    for (size_t i = 0; i < sizeof k_files / sizeof *k_files; i++) {
        coco_set s;
        fault f;
        if (coco_parse(&s, k_files[i].text, strlen(k_files[i].text), "x.json", &f)) fail_msg("%s: accepted", k_files[i].text);
        if (!strstr(f.text, k_files[i].message)) fail_msg("%s: '%s', not '%s'", k_files[i].text, f.text, k_files[i].message);
        assert_null(s.pictures);
    }
}

static void bad_objects_say_why(void **state) {
    (void)state;
    static const struct {
        const char *fields, *message;
    } k_objects[] = {
        {"\"category_id\": 1, \"bbox\": [0, 0, 1, 1]", "category_id"},
        {"\"bbox\": [0, 0, 1, 1]", "category_id"},
        {"\"category_id\": 3", "bbox: x, y"},
        {"\"category_id\": 3, \"bbox\": [0, 0, 1]", "bbox: x, y"},
        {"\"category_id\": 3, \"bbox\": [0, 0, 1, \"1\"]", "bbox: x, y"},
        {"\"category_id\": 3, \"bbox\": [0, 0, 0, 1]", "bbox: no area"},
        {"\"category_id\": 3, \"bbox\": [100, 0, 5, 5]", "bbox: no area"},
        {"\"category_id\": 3, \"bbox\": [5, 5, -2, 2]", "bbox: no area"},
        {"\"category_id\": 3, \"bbox\": [1e308, 0, 1e308, 2]", "bbox: no area"},
    };
    for (size_t i = 0; i < sizeof k_objects / sizeof *k_objects; i++) {
        char text[1024];
        coco_set s;
        coco_object o;
        fault f;
        (void)snprintf(text, sizeof text, "{" PICTURES ", " CATEGORIES ", \"annotations\": [{\"id\": 5, \"image_id\": 4, %s}]}", k_objects[i].fields);
        if (!coco_parse(&s, text, strlen(text), "x.json", &f)) fail_msg("%s", f.text);
        assert_false(coco_object_read(&o, &s, 0, &f));
        if (!strstr(f.text, k_objects[i].message)) fail_msg("'%s', not '%s'", f.text, k_objects[i].message);
        coco_object_free(&o);
        coco_free(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(annotations_come_by_picture), cmocka_unit_test(bad_files_are_refused), cmocka_unit_test(bad_objects_say_why)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
