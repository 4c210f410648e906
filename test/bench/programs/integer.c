/* Integer mix: a table-driven CRC, a sieve, and sorting by insertion. */
#include "bench.h"
static u32 table[256];
static u8 sieve[65536];
static u32 items[256];
static u32 crc(const u8 *p, u64 n)
{
	u32 c = ~0u;
	while (n--)
		c = table[(c ^ *p++) & 255] ^ (c >> 8);
	return ~c;
}
u64 run(void)
{
	u64 sum = 0, seed = 1;
	for (u32 i = 0; i < 256; i++) {
		u32 c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320 ^ (c >> 1) : c >> 1;
		table[i] = c;
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (u32 i = 2; i < sizeof(sieve); i++)
			sieve[i] = 1;
		for (u32 i = 2; i * i < sizeof(sieve); i++)
			if (sieve[i])
				for (u32 k = i * i; k < sizeof(sieve); k += i)
					sieve[k] = 0;
		sum = sum * 31 + crc(sieve, sizeof(sieve));
		for (u32 i = 0; i < 256; i++)
			items[i] = xorshift(&seed);
		for (u32 i = 1; i < 256; i++) {
			u32 v = items[i];
			int k = i - 1;
			for (; k >= 0 && items[k] > v; k--)
				items[k + 1] = items[k];
			items[k + 1] = v;
		}
		sum ^= items[round & 255];
	}
	return sum;
}
