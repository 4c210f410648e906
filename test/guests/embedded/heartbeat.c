/* The heartbeat integration component (§9.3, §9.4) over one channel: rings of a header and a data page each (§8.8). */
#include "guest.h"

struct ring {
	u32 write, read, interrupt_mask, pending_send_size;
	u32 reserved[12];
	u32 features;
	u8 padding[PAGE_SIZE - 68];
	u8 data[PAGE_SIZE];
};

struct packet_header {
	u16 type, offset8, length8, flags;
	u64 transaction;
};
#define PACKET_IN_BAND 6

struct heartbeat_message {
	u32 pipe_type, pipe_size;
	u16 framework[2], type, version[2], size;
	u32 status;
	u8 transaction, flags;
	u16 reserved;
	union {
		struct {
			u16 framework_count, message_count;
			u32 reserved;
			u16 versions[8][2];
		} negotiate;
		u64 sequence PACKED;
	};
} PACKED;
enum { IC_NEGOTIATE = 0, IC_HEARTBEAT = 1 };
#define IC_FLAGS_ANSWER (1 | 4)

/* The guest's outgoing ring, then the incoming one. */
static struct ring rings[2] PAGE_ALIGNED;
static const u8 heartbeat_type[16] = { 0x39, 0x4f, 0x16, 0x57, 0x15, 0x91, 0x78, 0x4e, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d };
static u32 relid, signal_id;
volatile u64 heartbeats;
static u16 agreed[2];

static u32 ring_copy_out(const struct ring *ring, u32 at, void *to, u32 n)
{
	for (u8 *p = to; n--; at = (at + 1) % PAGE_SIZE)
		*p++ = ring->data[at];
	return at;
}

static u32 ring_copy_in(struct ring *ring, u32 at, const void *from, u32 n)
{
	for (const u8 *p = from; n--; at = (at + 1) % PAGE_SIZE)
		ring->data[at] = *p++;
	return at;
}

static void send(const struct heartbeat_message *message, u32 size, u64 transaction)
{
	struct ring *ring = &rings[0];
	u32 start = ring->write;
	u64 trailer = (u64)start << 32;
	struct packet_header header = { PACKET_IN_BAND, 2, (u16)(2 + (size + 7) / 8), 0, transaction };
	u32 at = ring_copy_in(ring, start, &header, sizeof(header));

	at = ring_copy_in(ring, at, message, (size + 7) & ~7u);
	at = ring_copy_in(ring, at, &trailer, sizeof(trailer));
	mb();
	*(volatile u32 *)&ring->write = at;
	mb();
	hv_do_fast_hypercall16(HVCALL_SIGNAL_EVENT, signal_id, 0);
}

static void answer(struct heartbeat_message *message, u32 size, u64 transaction)
{
	if (message->type == IC_NEGOTIATE) {
		/* The host lists what it likes best first, frameworks before messages. */
		u32 messages = message->negotiate.framework_count;

		memcpy(agreed, message->negotiate.versions[messages], sizeof(agreed));
		memcpy(message->negotiate.versions[1], agreed, sizeof(agreed));
		message->negotiate.framework_count = 1;
		message->negotiate.message_count = 1;
	} else if (message->type == IC_HEARTBEAT) {
		message->sequence++;
		heartbeats++;
	}
	message->flags = IC_FLAGS_ANSWER;
	send(message, size, transaction);
}

static void heartbeat_event(void)
{
	struct ring *ring = &rings[1];
	volatile u32 *write = &ring->write;

	while (ring->read != *write) {
		struct packet_header header;
		struct heartbeat_message message;
		u32 size, at;

		mb();
		at = ring_copy_out(ring, ring->read, &header, sizeof(header));
		size = (u32)(header.length8 - header.offset8) * 8;
		if (size > sizeof(message))
			size = sizeof(message);
		memset(&message, 0, sizeof(message));
		ring_copy_out(ring, at, &message, size);
		ring->read = (ring->read + header.length8 * 8u + 8) % PAGE_SIZE;
		mb();
		answer(&message, size, header.transaction);
	}
}

void heartbeat_open(void)
{
	bool opened;

	if (!vmbus_find(heartbeat_type, &relid, &signal_id)) {
		print("HEARTBEAT not offered\n");
		return;
	}
	rings[0].features = 1;
	rings[1].features = 1;
	synic_on_event(relid, heartbeat_event);
	opened = vmbus_open(relid, rings);
	check(opened, "HEARTBEAT channel opened");
	if (!opened)
		return;
	/* The host beats every two seconds. */
	wait_for(&heartbeats, 5000000);
	print("HEARTBEAT version %u.%u, %u beats\n", (u64)agreed[0], (u64)agreed[1], heartbeats);
	check(heartbeats > 0 && agreed[0] > 0, "HEARTBEAT answered");
}

void heartbeat_close(void)
{
	if (relid)
		check(vmbus_close(relid), "HEARTBEAT channel closed");
}
