/* Matrix product in double precision, scalar. */
#include "bench.h"
#define N 48
static double x[N][N], y[N][N], z[N][N];
u64 run(void)
{
	for (int i = 0; i < N; i++)
		for (int k = 0; k < N; k++) {
			x[i][k] = 1.0 / (1 + i + 2 * k);
			y[i][k] = 1.5 - (i * k) / 37.0;
		}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				double s = 0.25;
				for (int k = 0; k < N; k++)
					s += x[i][k] * y[k][j];
				z[i][j] = s;
			}
		x[round % N][(round * 7) % N] = z[(round * 3) % N][round % N] * 0.01;
	}
	double s = 0;
	for (int i = 0; i < N; i++)
		s += z[i][(i * 5) % N];
	union { double d; u64 u; } result = { .d = s };
	return result.u;
}
