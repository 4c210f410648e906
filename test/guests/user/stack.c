/* A program without a library, for stacks that go from the kernel into user space. */

static long write_out(const char *text, long size)
{
	register long x0 asm("x0") = 1;
	register const char *x1 asm("x1") = text;
	register long x2 asm("x2") = size;
	register long x8 asm("x8") = 64;

	asm volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
	return x0;
}

__attribute__((noinline)) static long greet(void)
{
	return write_out("hello from user space\n", 22);
}

__attribute__((noinline)) static long again(int depth)
{
	if (depth == 0)
		return greet() - 22;
	return again(depth - 1) + 1;
}

__attribute__((used)) static long program(void)
{
	return again(2) - 2;
}

asm(".globl _start\n"
    "_start:\n"
    "	mov x29, xzr\n"
    "	mov x30, xzr\n"
    "	bl program\n"
    "	mov x8, #93\n"
    "	svc #0\n");
