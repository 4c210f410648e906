/* Pointer chase over 4 MiB. */
#include "bench.h"
#define N (1 << 16)
static struct node { struct node *next; u64 value[7]; } nodes[N];
u64 run(void)
{
	u64 sum = 0;
	for (u32 i = 0; i < N; i++) {
		nodes[i].next = &nodes[(i * 40503u + 12345) & (N - 1)];
		nodes[i].value[0] = i;
	}
	struct node *p = nodes;
	for (u64 i = 0; i < ROUNDS * 100000ul; i++) {
		sum += p->value[0];
		p = p->next;
	}
	return sum;
}
