static inline __attribute__((always_inline)) int clamp(int value, int low, int high)
{
	if (value < low)
		return low;
	return value > high ? high : value;
}

static inline __attribute__((always_inline)) int twice(int value)
{
	return clamp(value + value, -100, 100);
}
