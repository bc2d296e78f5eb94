# Read by llama-cpp-python's own build through CMAKE_PROJECT_llama_cpp_INCLUDE: leaves out llama.cpp's
# command-line helpers, which the Python package never calls and which are 40 % of the compile time.
set(LLAMA_BUILD_COMMON OFF)
