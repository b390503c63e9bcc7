// As libc.c: the names of Android's libdl.so.
#define F(name) void name(void) {}
F(dlerror) F(dlopen) F(dlsym)
