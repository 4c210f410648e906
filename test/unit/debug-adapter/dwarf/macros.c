/* Macros in debug information (-g3): what a debugger's user points at. */
#define WIDTH 12
#define AREA (WIDTH * HEIGHT)
#define HEIGHT 5U
#define TWICE(x) ((x) + (x))
#define GONE 1
#undef GONE
#define SELF SELF
#define NOTHING
#define LETTER 'a'
#define WORD ((unsigned short)0x12345)
#define WIDER (WIDTH + missing)
#define AGAIN 1
#undef AGAIN
#define AGAIN 2

int area(void)
{
	return AREA + TWICE(LETTER) + AGAIN + WORD;
}
