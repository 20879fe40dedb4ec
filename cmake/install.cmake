# Installing the library: header, shared object, pkg-config file, CMake package.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/paligemma)
install(TARGETS paligemma EXPORT paligemma LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT paligemma NAMESPACE paligemma:: DESTINATION ${package_dir} FILE paligemmaConfig.cmake)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/paligemmaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/paligemmaConfigVersion.cmake DESTINATION ${package_dir})
# The prefix is relative to the file, because `cmake --install --prefix` may change it after configuration.
file(RELATIVE_PATH PKG_CONFIG_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/paligemma.pc.in ${CMAKE_BINARY_DIR}/paligemma.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/paligemma.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
