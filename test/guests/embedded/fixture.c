/* Nothing but code and data for debuggers to look at: nested calls, locals, and one of each kind of type. */
#include "guest.h"

enum colour { RED, GREEN = 5, BLUE };

struct point {
	int x, y;
};

union word {
	u32 whole;
	u8 bytes[4];
};

struct node {
	int value;
	const char *name;
	struct node *next;
};

struct fixture {
	enum colour colour;
	struct point points[3];
	union word word;
	u32 low : 4;
	u32 high : 12;
	s64 negative;
	bool flag;
	char text[16];
	struct node *list;
	int (*operation)(int, int);
};

static int add(int a, int b)
{
	return a + b;
}

static struct node third = { 3, "third", NULL };
static struct node second = { 2, "second", &third };
static struct node first = { 1, "first", &second };

struct fixture fixture = {
	.colour = GREEN,
	.points = { { 1, -1 }, { 2, -2 }, { 3, -3 } },
	.word.whole = 0x11223344,
	.low = 9,
	.high = 0xabc,
	.negative = -42,
	.flag = true,
	.text = "hyperstep",
	.list = &first,
	.operation = add,
};

NOINLINE u64 fib(u32 n)
{
	u64 a, b;

	if (n < 2)
		return n;
	a = fib(n - 1);
	b = fib(n - 2);
	return a + b;
}

NOINLINE static int sum_list(const struct node *list)
{
	int sum = 0;

	for (const struct node *node = list; node; node = node->next)
		sum += node->value;
	return sum;
}

NOINLINE static int inner(struct point p, int depth)
{
	int product = p.x * p.y;
	int local = fixture.operation(product, depth);

	return local;
}

NOINLINE static int middle(int count)
{
	int total = 0;

	for (int i = 0; i < count; i++) {
		struct point moved = { fixture.points[i].x + 10, fixture.points[i].y };

		total += inner(moved, i);
	}
	return total;
}

NOINLINE static int outer(void)
{
	int list = sum_list(fixture.list);
	int points = middle(3);

	return list + points;
}

void fixture_run(void)
{
	int result = outer();

	print("FIXTURE fib(10) = %u, outer() = %d\n", fib(10), (s64)result);
	check(fib(10) == 55 && result == 6 - 71, "FIXTURE arithmetic");
}
