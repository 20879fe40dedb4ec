/* builtin_data.S: the files of builtin.h as read-only data. A page's alignment keeps the file's own (32 bytes, which kernels like) and
 * lets whole pages come and go. The paths are CMake's. */
    .section .rodata
    .balign 4096
#ifdef BUILTIN_MODEL
    .globl builtin_model_begin
    .hidden builtin_model_begin
    .type builtin_model_begin, %object
builtin_model_begin:
    .incbin BUILTIN_MODEL
    .globl builtin_model_end
    .hidden builtin_model_end
builtin_model_end:
    .size builtin_model_begin, . - builtin_model_begin
#endif
    .balign 64
#ifdef BUILTIN_CODEC
    .globl builtin_codec_begin
    .hidden builtin_codec_begin
    .type builtin_codec_begin, %object
builtin_codec_begin:
    .incbin BUILTIN_CODEC
    .globl builtin_codec_end
    .hidden builtin_codec_end
builtin_codec_end:
    .size builtin_codec_begin, . - builtin_codec_begin
#endif
    .section .note.GNU-stack, "", %progbits
