#include "program.h"

struct node;
struct pair {
	short a;
	long long b;
};
static int counter = 3;
extern volatile long sink;

__attribute__((noinline)) static long helper(struct pair *p, long x)
{
	p->a = clamp(x, 0, 9);
	p->b = p->a * counter;
	return p->b;
}

__attribute__((noinline)) long second_file(struct node *n, long x)
{
	struct pair p = { 0 };

	if (!n)
		return 0;
	counter++;
	return helper(&p, x) + twice(x);
}
