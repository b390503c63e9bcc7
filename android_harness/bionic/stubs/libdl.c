// As libc.c: the names of Android's libdl.so.
#define F(name) void name(void) {}
F(dlclose) F(dlerror) F(dlopen) F(dlsym)
