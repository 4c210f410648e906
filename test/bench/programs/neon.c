/* Advanced SIMD on integers: blending, saturating sums and horizontal sums of bytes. */
#include <arm_neon.h>
#include "bench.h"
static u8 a[16384], b[16384], c[16384];
u64 run(void)
{
	u64 seed = 3, sum = 0;
	for (u32 i = 0; i < sizeof(a); i++) {
		a[i] = xorshift(&seed);
		b[i] = xorshift(&seed);
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint32x4_t total = vdupq_n_u32(0);
		uint8x16_t k = vdupq_n_u8(round);
		for (u32 i = 0; i < sizeof(a); i += 16) {
			uint8x16_t p = vld1q_u8(a + i), q = vld1q_u8(b + i);
			uint8x16_t m = vcgtq_u8(p, q);
			uint8x16_t r = vbslq_u8(m, vqaddq_u8(p, k), vrhaddq_u8(q, k));
			r = veorq_u8(r, vshrq_n_u8(p, 3));
			vst1q_u8(c + i, r);
			total = vpadalq_u16(total, vpaddlq_u8(r));
		}
		sum = sum * 3 + vaddvq_u32(total) + c[round & 16383];
	}
	return sum;
}
