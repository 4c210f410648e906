/* A small program whose debug information has what a kernel's has: inlining, clones, statics, bit fields, nested scopes. */
#include "program.h"

enum color { RED, GREEN = 5, BLUE = -1 };

struct node {
	struct node *next;
	unsigned int ready : 1, mode : 3;
	enum color color;
	union {
		long whole;
		char parts[8];
	};
	int (*handler)(struct node *, int);
	int tail[];
};

typedef struct node node_t;

int counter;
static struct node first = { .color = GREEN };
volatile long sink;

static int handle(struct node *n, int value)
{
	static int calls;

	calls += value;
	n->whole += calls;
	return calls;
}

static __attribute__((noinline)) int walk(struct node *n, int depth)
{
	int sum = 0;

	while (n) {
		int here = clamp(n->mode + depth, 1, 7);

		sum += here;
		if (n->handler) {
			long before = sink;

			sum += n->handler(n, here);
			sink = before + twice(sum);
		}
		n = n->next;
	}
	return sum;
}

__attribute__((noinline)) long second_file(node_t *n, long x);

int start(int argument)
{
	first.handler = handle;
	first.mode = argument & 7;
	counter = walk(&first, twice(argument));
	counter += second_file(&first, counter);
	for (int i = 0; i < 4; i++)
		sink += clamp(i, 1, 2);
	return counter;
}
