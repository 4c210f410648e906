/* /chosen of the flattened device tree: Devicetree Specification v0.4, chapter 5. */
#include "guest.h"

#define FDT_MAGIC 0xd00dfeed
enum fdt_token { FDT_BEGIN_NODE = 1, FDT_END_NODE = 2, FDT_PROP = 3, FDT_NOP = 4, FDT_END = 9 };

const char *command_line = "";

static u32 be32(const u8 *p)
{
	return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
}

static bool same(const char *a, const char *b)
{
	return strlen(a) == strlen(b) && memcmp(a, b, strlen(a)) == 0;
}

const void *fdt_chosen(const void *fdt, const char *property, u32 *length)
{
	const u8 *base = fdt;
	u32 depth = 0;
	bool in_chosen = false;

	if (!fdt || be32(base) != FDT_MAGIC)
		return NULL;
	const char *strings = (const char *)base + be32(base + 12);
	for (const u8 *p = base + be32(base + 8);;) {
		u32 token = be32(p);

		p += 4;
		if (token == FDT_BEGIN_NODE) {
			depth++;
			in_chosen = depth == 2 && same((const char *)p, "chosen");
			p += (strlen((const char *)p) + 4) & ~3ul;
		} else if (token == FDT_END_NODE) {
			depth--;
			in_chosen = false;
		} else if (token == FDT_PROP) {
			u32 size = be32(p);

			if (in_chosen && same(strings + be32(p + 4), property)) {
				*length = size;
				return p + 8;
			}
			p += 8 + ((size + 3) & ~3u);
		} else if (token != FDT_NOP) {
			return NULL;
		}
	}
}

u64 fdt_number(const void *property, u32 length)
{
	const u8 *p = property;
	u64 v = 0;

	for (u32 i = 0; p && i < length; i++)
		v = v << 8 | p[i];
	return v;
}

bool command_line_has(const char *word)
{
	u64 n = strlen(word);

	for (const char *p = command_line; *p;) {
		const char *end = p;

		while (*end && *end != ' ')
			end++;
		if ((u64)(end - p) == n && memcmp(p, word, n) == 0)
			return true;
		p = *end ? end + 1 : end;
	}
	return false;
}
