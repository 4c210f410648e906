/* VMBus (§8): contact, offers, one channel, unload. */
#include "guest.h"

enum vmbus_type {
	VMBUS_OFFER = 1,
	VMBUS_REQUEST_OFFERS = 3,
	VMBUS_ALL_OFFERS_DELIVERED = 4,
	VMBUS_OPEN = 5,
	VMBUS_OPEN_RESULT = 6,
	VMBUS_CLOSE = 7,
	VMBUS_GPADL_HEADER = 8,
	VMBUS_GPADL_CREATED = 10,
	VMBUS_GPADL_TEARDOWN = 11,
	VMBUS_GPADL_TORNDOWN = 12,
	VMBUS_INITIATE_CONTACT = 14,
	VMBUS_VERSION_RESPONSE = 15,
	VMBUS_UNLOAD = 16,
	VMBUS_UNLOAD_RESPONSE = 17,
};

/* INITIATE_CONTACT goes to this connection in versions 5.0 and later (§8.1). */
#define MESSAGE_CONNECTION 4

struct vmbus_header {
	u32 type, padding;
};

struct vmbus_initiate_contact {
	struct vmbus_header header;
	u32 version, target_vp;
	u8 message_sint, message_vtl;
	u16 reserved;
	u32 features;
	u64 monitor_page[2];
};

struct vmbus_version_response {
	struct vmbus_header header;
	u8 supported, state;
	u16 padding;
	u32 connection_id;
};

struct vmbus_offer {
	struct vmbus_header header;
	u8 type[16], instance[16];
	u64 reserved[2];
	u16 flags, mmio_megabytes;
	u8 user_data[120];
	u16 subchannel, reserved2;
	u32 relid;
	u8 monitor_id, monitor_allocated;
	u16 dedicated_interrupt;
	u32 connection_id;
} PACKED;

static struct {
	u32 connection_id, reserved, type, size;
	u8 payload[240];
} post_input __attribute__((aligned(256)));

static u64 monitor_pages[2][PAGE_SIZE / 8] PAGE_ALIGNED;

/* What the host has said. */
static struct {
	struct vmbus_version_response version;
	struct vmbus_offer offers[32];
	u32 offer_count;
	/* Messages received, by type. */
	volatile u64 received[32];
	/* Of the last OPEN_RESULT or GPADL_CREATED. */
	u32 status;
} vmbus;

struct vmbus_gpadl_header {
	struct vmbus_header header;
	u32 relid, gpadl;
	u16 range_bytes, range_count;
	u32 byte_count, byte_offset;
	u64 pages[4];
} PACKED;

struct vmbus_open {
	struct vmbus_header header;
	u32 relid, open_id, gpadl, target_vp, downstream_page;
	u8 user_data[120];
};

struct vmbus_relid_message {
	struct vmbus_header header;
	u32 relid, gpadl;
};

/* Any value that is not in use. */
#define GPADL 0xe1e10

static u32 connection_id = MESSAGE_CONNECTION;

void vmbus_message(const u8 *payload, u32 size)
{
	const struct vmbus_header *header = (const void *)payload;

	if (header->type == VMBUS_OFFER && size >= sizeof(struct vmbus_offer) && vmbus.offer_count < 32)
		memcpy(&vmbus.offers[vmbus.offer_count++], payload, sizeof(struct vmbus_offer));
	if (header->type == VMBUS_VERSION_RESPONSE && size >= sizeof(vmbus.version))
		memcpy(&vmbus.version, payload, sizeof(vmbus.version));
	if (header->type == VMBUS_OPEN_RESULT || header->type == VMBUS_GPADL_CREATED)
		memcpy(&vmbus.status, payload + 16, sizeof(vmbus.status));
	if (header->type < 32)
		vmbus.received[header->type]++;
}

static u16 post(const void *message, u32 size)
{
	post_input.connection_id = connection_id;
	post_input.type = 1;
	post_input.size = size;
	memcpy(post_input.payload, message, size);
	return hv_do_hypercall(HVCALL_POST_MESSAGE, &post_input, NULL);
}

/* Posts `message` and waits for the first answer of `type`. */
static bool ask(const void *message, u32 size, u32 type)
{
	vmbus.received[type] = 0;
	return post(message, size) == 0 && wait_for(&vmbus.received[type], 1000000);
}

static bool contact(u32 version)
{
	struct vmbus_initiate_contact message = {
		.header.type = VMBUS_INITIATE_CONTACT,
		.version = version,
		.target_vp = (u32)hv_get_vpreg64(HV_REGISTER_VP_INDEX),
		.message_sint = 2,
		.monitor_page = { (u64)monitor_pages[0], (u64)monitor_pages[1] },
	};

	return ask(&message, sizeof(message), VMBUS_VERSION_RESPONSE) && vmbus.version.supported;
}

static void print_hex(u8 byte)
{
	console_putc("0123456789abcdef"[byte >> 4]);
	console_putc("0123456789abcdef"[byte & 15]);
}

static void print_guid(const u8 *guid)
{
	static const u8 order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (u32 i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			console_putc('-');
		print_hex(guid[order[i]]);
	}
}

bool vmbus_connect(void)
{
	static const u32 versions[] = { 0x70000, 0x50003, 0x50002, 0x50001, 0x50000 };
	struct vmbus_header request = { VMBUS_REQUEST_OFFERS, 0 };
	u32 version = 0;

	for (u32 i = 0; i < sizeof(versions) / sizeof(versions[0]) && !version; i++) {
		if (contact(versions[i]))
			version = versions[i];
		else
			print("VMBUS version %u.%u refused\n", (u64)versions[i] >> 16, (u64)versions[i] & 0xffff);
	}
	check(version != 0, "VMBUS contact");
	if (!version)
		return false;
	print("VMBUS version %u.%u, connection %u\n", (u64)version >> 16, (u64)version & 0xffff, (u64)vmbus.version.connection_id);
	check(version != 0x70000, "VMBUS version of the future refused");
	connection_id = vmbus.version.connection_id;

	check(ask(&request, sizeof(request), VMBUS_ALL_OFFERS_DELIVERED), "VMBUS all offers delivered");
	for (u32 i = 0; i < vmbus.offer_count; i++) {
		const struct vmbus_offer *offer = &vmbus.offers[i];

		print("VMBUS offer: channel %u, type ", (u64)offer->relid);
		print_guid(offer->type);
		print(", instance ");
		print_guid(offer->instance);
		print(", connection %x\n", (u64)offer->connection_id);
	}
	print("VMBUS %u offers\n", (u64)vmbus.offer_count);
	check(vmbus.offer_count > 0, "VMBUS offers");
	return true;
}

bool vmbus_find(const u8 *type, u32 *relid, u32 *signal)
{
	for (u32 i = 0; i < vmbus.offer_count; i++)
		if (memcmp(vmbus.offers[i].type, type, 16) == 0) {
			*relid = vmbus.offers[i].relid;
			*signal = vmbus.offers[i].connection_id;
			return true;
		}
	return false;
}

bool vmbus_open(u32 relid, void *rings)
{
	struct vmbus_gpadl_header gpadl = {
		.header.type = VMBUS_GPADL_HEADER,
		.relid = relid,
		.gpadl = GPADL,
		.range_bytes = 8 + sizeof(gpadl.pages),
		.range_count = 1,
		.byte_count = 4 * PAGE_SIZE,
	};
	struct vmbus_open open = {
		.header.type = VMBUS_OPEN,
		.relid = relid,
		.open_id = relid,
		.gpadl = GPADL,
		.target_vp = (u32)hv_get_vpreg64(HV_REGISTER_VP_INDEX),
		.downstream_page = 2,
	};

	for (u32 i = 0; i < 4; i++)
		gpadl.pages[i] = (u64)rings / PAGE_SIZE + i;
	if (!ask(&gpadl, sizeof(gpadl), VMBUS_GPADL_CREATED) || vmbus.status != 0)
		return false;
	return ask(&open, sizeof(open), VMBUS_OPEN_RESULT) && vmbus.status == 0;
}

bool vmbus_close(u32 relid)
{
	struct vmbus_relid_message close = { .header.type = VMBUS_CLOSE, .relid = relid };
	struct vmbus_relid_message teardown = { .header.type = VMBUS_GPADL_TEARDOWN, .relid = relid, .gpadl = GPADL };

	return post(&close, 12) == 0 && ask(&teardown, sizeof(teardown), VMBUS_GPADL_TORNDOWN);
}

void vmbus_disconnect(void)
{
	struct vmbus_header unload = { VMBUS_UNLOAD, 0 };

	check(ask(&unload, sizeof(unload), VMBUS_UNLOAD_RESPONSE), "VMBUS unload");
}
