/* Identity map of the low 4 GiB, and the memory functions that a compiler may call. */
#include "guest.h"

/* Arm ARM D8.3: block descriptors of a 4 KiB granule table whose entries map 1 GiB each. */
#define BLOCK 1ul
#define AF (1ul << 10)
#define INNER_SHAREABLE (3ul << 8)
#define ATTR_NORMAL (0ul << 2)
#define ATTR_DEVICE (1ul << 2)
#define XN ((1ul << 54) | (1ul << 53))
#define GIB (1ul << 30)
/* MAIR_EL1: 0 = Normal write-back, 1 = Device-nGnRE */
#define MAIR 0x04fful
/* TCR_EL1: T0SZ 25 (39 bits, so that the walk begins at this table), write-back walks, inner shareable, no TTBR1 walks */
#define TCR (25ul | (1ul << 8) | (1ul << 10) | (3ul << 12) | (1ul << 23) | (2ul << 32))
#define SCTLR_M_C_I ((1ul << 0) | (1ul << 2) | (1ul << 12))

static u64 translation_table[512] PAGE_ALIGNED;

void mmu_init(void)
{
	/* RAM is below 3 GiB, devices are above (§7.1). */
	for (u64 i = 0; i < 3; i++)
		translation_table[i] = (i * GIB) | BLOCK | AF | INNER_SHAREABLE | ATTR_NORMAL;
	translation_table[3] = (3 * GIB) | BLOCK | AF | ATTR_DEVICE | XN;
	mb();
	mmu_enable();
}

void mmu_enable(void)
{
	write_sysreg(MAIR, mair_el1);
	write_sysreg(TCR, tcr_el1);
	write_sysreg(translation_table, ttbr0_el1);
	isb();
	__asm__ volatile("tlbi vmalle1" ::: "memory");
	mb();
	isb();
	write_sysreg(read_sysreg(sctlr_el1) | SCTLR_M_C_I, sctlr_el1);
	isb();
}

void *memset(void *to, int c, u64 n)
{
	for (u8 *p = to; n--;)
		*p++ = (u8)c;
	return to;
}

void *memcpy(void *to, const void *from, u64 n)
{
	u8 *p = to;
	const u8 *q = from;

	while (n--)
		*p++ = *q++;
	return to;
}

int memcmp(const void *a, const void *b, u64 n)
{
	const u8 *p = a, *q = b;

	for (; n--; p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

u64 strlen(const char *s)
{
	u64 n = 0;

	while (s[n])
		n++;
	return n;
}
