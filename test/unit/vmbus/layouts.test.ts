import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { struct } from '../../../emulator/base/struct.ts';
import { HvInputPostMessage, HvMessageHeader } from '../../../emulator/hyperv/tlfs.ts';
import { HeartbeatBody } from '../../../emulator/vmbus/devices/heartbeat.ts';
import { IcHeader, PipeHeader } from '../../../emulator/vmbus/devices/ic.ts';
import { Keystroke, ProtocolRequest, ProtocolResponse } from '../../../emulator/vmbus/devices/keyboard.ts';
import { VstorHeader, VstorProperties, VstorSrb, VstorVersion } from '../../../emulator/vmbus/devices/scsi.ts';
import { ShutdownBody } from '../../../emulator/vmbus/devices/shutdown.ts';
import { BodyV1, BodyV4 } from '../../../emulator/vmbus/devices/timesync.ts';
import { MESSAGES, PacketDescriptor, RingHeader } from '../../../emulator/vmbus/protocol.ts';

interface LinuxStruct {
  size: number;
  members: Record<string, number>;
}
const LINUX = (
  JSON.parse(fs.readFileSync(new URL('./linux-structs.json', import.meta.url), 'utf8')) as {
    structs: Record<string, LinuxStruct>;
  }
).structs;

interface Layout {
  size: number;
  field: Record<string, { offset: number }>;
}

/** The header's own fields, then the body: as Linux has them in one struct. */
const { Operation, Flags, Status } = VstorHeader.field;
const VSTOR_PACKET = struct('VstorPacket', { Operation, Flags, Status, Srb: VstorSrb });

const OURS: Record<string, Layout> = {
  vmbus_channel_offer_channel: MESSAGES.OfferChannel.layout,
  vmbus_channel_rescind_offer: MESSAGES.RescindChannelOffer.layout,
  vmbus_channel_open_channel: MESSAGES.OpenChannel.layout,
  vmbus_channel_open_result: MESSAGES.OpenChannelResult.layout,
  vmbus_channel_close_channel: MESSAGES.CloseChannel.layout,
  vmbus_channel_gpadl_header: MESSAGES.GpadlHeader.layout,
  vmbus_channel_gpadl_body: MESSAGES.GpadlBody.layout,
  vmbus_channel_gpadl_created: MESSAGES.GpadlCreated.layout,
  vmbus_channel_gpadl_teardown: MESSAGES.GpadlTeardown.layout,
  vmbus_channel_gpadl_torndown: MESSAGES.GpadlTorndown.layout,
  vmbus_channel_relid_released: MESSAGES.RelIdReleased.layout,
  vmbus_channel_initiate_contact: MESSAGES.InitiateContact.layout,
  vmbus_channel_version_response: MESSAGES.VersionResponse.layout,
  vmbus_channel_modifychannel: MESSAGES.ModifyChannel.layout,
  vmbus_channel_modifychannel_response: MESSAGES.ModifyChannelResponse.layout,
  vmbus_channel_tl_connect_request: MESSAGES.TlConnectRequest.layout,
  vmpacket_descriptor: PacketDescriptor,
  hv_message_header: HvMessageHeader,
  hv_input_post_message: HvInputPostMessage,
  icmsg_hdr: IcHeader,
  heartbeat_msg_data: HeartbeatBody,
  shutdown_msg_data: ShutdownBody,
  ictimesync_data: BodyV1,
  ictimesync_ref_data: BodyV4,
  synth_kbd_keystroke: Keystroke,
  synth_kbd_protocol_request: ProtocolRequest,
  synth_kbd_protocol_response: ProtocolResponse,
  vmscsi_request: VstorSrb,
  vmstorage_channel_properties: VstorProperties,
  vmstorage_protocol_version: VstorVersion,
  vstor_packet: VSTOR_PACKET,
};

for (const [name, ours] of Object.entries(OURS))
  test(`${name} lies in memory as in the kernel`, () => {
    const linux = LINUX[name];
    // What follows the fixed part (GPADL ranges, page numbers) begins where our layout ends.
    const theirs = new Set(Object.values(linux.members).filter((at) => at < linux.size));
    const offsets = Object.values(ours.field).map((f) => f.offset);
    // Linux spells two reserved qwords where we have an array.
    if (name === 'vmbus_channel_offer_channel') theirs.delete(48);
    assert.deepEqual([ours.size, offsets], [linux.size, [...theirs]]);
  });

test('the ring header lies in memory as in the kernel', () => {
  const { members, size } = LINUX.hv_ring_buffer;
  const { WriteIndex, ReadIndex, InterruptMask, PendingSendSize, FeatureBits } = RingHeader.field;
  assert.deepEqual(
    [WriteIndex, ReadIndex, InterruptMask, PendingSendSize, FeatureBits].map((f) => f.offset),
    [members.write_index, members.read_index, members.interrupt_mask, members.pending_send_sz, members.feature_bits],
  );
  assert.deepEqual([size, PipeHeader.size + IcHeader.size], [4096, 28]);
});
