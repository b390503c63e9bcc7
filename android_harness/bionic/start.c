// The first instructions of a program on Android, where the NDK's crtbegin is not at hand: hand the stack as the kernel
// left it to bionic's __libc_init, which calls main and exit.
extern int main(int, char **, char **);

// Constructors and destructors of the program: the dynamic loader runs the former by itself, and of the latter, which
// bionic looks for here, the harness has none. Zero means none; longer than any bionic's, which grew over time.
struct arrays {
    void (**functions[8])(void);
};

_Noreturn void __libc_init(void *stack, void (*unused)(void), int (*program)(int, char **, char **),
                           const struct arrays *arrays);

static const struct arrays NONE;

__attribute__((used)) static void start(void *stack) { __libc_init(stack, 0, main, &NONE); }

// No frame is below this one; the stack is aligned to 16 bytes before the call.
#if defined(__aarch64__)
__asm__(".text; .globl _start; .type _start, %function; _start: mov x29, #0; mov x30, #0; mov x0, sp; b start");
#elif defined(__x86_64__)
__asm__(".text; .globl _start; .type _start, @function; _start: xorl %ebp, %ebp; movq %rsp, %rdi; andq $-16, %rsp; call start");
#else
#error "only 64-bit Android"
#endif
