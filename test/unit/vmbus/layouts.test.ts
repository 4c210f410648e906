import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { bytes, struct, u8 } from '../../../emulator/base/struct.ts';
import { HvInputPostMessage, HvMessageHeader } from '../../../emulator/hyperv/tlfs.ts';
import {
  DmAccepted,
  DmBalloon,
  DmBalloonResponse,
  DmCapabilities,
  DmHeader,
  DmHotAdd,
  DmHotAddResponse,
  DmInfo,
  DmStatus,
  DmUnballoon,
  DmVersionRequest,
} from '../../../emulator/vmbus/devices/balloon.ts';
import { FcopyStart } from '../../../emulator/vmbus/devices/fcopy.ts';
import { HeartbeatBody } from '../../../emulator/vmbus/devices/heartbeat.ts';
import { IcHeader, PipeHeader } from '../../../emulator/vmbus/devices/ic.ts';
import { Keystroke, ProtocolRequest, ProtocolResponse } from '../../../emulator/vmbus/devices/keyboard.ts';
import { KvpDelete, KvpEnumerate, KvpExchangeValue, KvpHeader, KvpIpAddressValue } from '../../../emulator/vmbus/devices/kvp.ts';
import { VstorHeader, VstorProperties, VstorSrb, VstorVersion } from '../../../emulator/vmbus/devices/scsi.ts';
import * as nvsp from '../../../emulator/vmbus/devices/network/nvsp.ts';
import { ConfigParameter } from '../../../emulator/vmbus/devices/network/oids.ts';
import * as rndis from '../../../emulator/vmbus/devices/network/rndis.ts';
import { ShutdownBody } from '../../../emulator/vmbus/devices/shutdown.ts';
import { BodyV1, BodyV4 } from '../../../emulator/vmbus/devices/timesync.ts';
import { VssBody } from '../../../emulator/vmbus/devices/vss.ts';
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
  field: Record<string, { offset: number; field?: Layout['field'] }>;
}

/** Where each number of a layout lies: those of a struct inside it for themselves. */
const offsetsOf = ({ field }: Pick<Layout, 'field'>): number[] =>
  Object.values(field).flatMap((f) => (f.field ? offsetsOf({ field: f.field }).map((at) => f.offset + at) : [f.offset]));

/** The header's own fields, then the body: as Linux has them in one struct. */
const { Operation, Flags, Status } = VstorHeader.field;
const VSTOR_PACKET = struct('VstorPacket', { Operation, Flags, Status, Srb: bytes(VstorSrb.size) });

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
  hv_kvp_hdr: KvpHeader,
  hv_kvp_exchg_msg_value: KvpExchangeValue,
  hv_kvp_msg_enumerate: KvpEnumerate,
  hv_kvp_msg_delete: KvpDelete,
  hv_kvp_ip_msg: struct('KvpIp', { Operation: u8, Pool: u8, Value: KvpIpAddressValue }),
  hv_start_fcopy: FcopyStart,
  dm_header: DmHeader,
  dm_version_request: DmVersionRequest,
  dm_version_response: DmAccepted,
  dm_capabilities: DmCapabilities,
  dm_capabilities_resp_msg: DmAccepted,
  dm_status: DmStatus,
  dm_balloon: DmBalloon,
  dm_balloon_response: DmBalloonResponse,
  dm_unballoon_request: DmUnballoon,
  dm_unballoon_response: DmHeader,
  dm_hot_add: DmHotAdd,
  dm_hot_add_response: DmHotAddResponse,
  synth_kbd_keystroke: Keystroke,
  synth_kbd_protocol_request: ProtocolRequest,
  synth_kbd_protocol_response: ProtocolResponse,
  vmscsi_request: VstorSrb,
  vmstorage_channel_properties: VstorProperties,
  vmstorage_protocol_version: VstorVersion,
  vstor_packet: VSTOR_PACKET,
  nvsp_message_init: nvsp.NvspInit,
  nvsp_message_init_complete: nvsp.NvspInitComplete,
  nvsp_1_message_send_ndis_version: nvsp.NvspNdisVersion,
  nvsp_1_message_send_receive_buffer: nvsp.NvspBuffer,
  nvsp_1_message_send_send_buffer_complete: nvsp.NvspSendBufferComplete,
  nvsp_1_message_revoke_receive_buffer: nvsp.NvspRevokeBuffer,
  nvsp_1_message_send_rndis_packet: nvsp.NvspRndisPacket,
  nvsp_1_message_send_rndis_packet_complete: nvsp.NvspRndisPacketComplete,
  nvsp_2_send_ndis_config: nvsp.NvspNdisConfig,
  nvsp_4_sw_datapath: nvsp.NvspSwitchDataPath,
  nvsp_5_subchannel_request: nvsp.NvspSubchannelRequest,
  nvsp_5_subchannel_complete: nvsp.NvspSubchannelComplete,
  nvsp_5_send_indirect_table: nvsp.NvspIndirectionTable,
  rndis_packet: rndis.RndisPacket,
  rndis_initialize_request: rndis.RndisInitialize,
  rndis_initialize_complete: rndis.RndisInitializeComplete,
  rndis_query_request: rndis.RndisRequest,
  rndis_query_complete: rndis.RndisQueryComplete,
  rndis_set_complete: rndis.RndisComplete,
  rndis_reset_complete: rndis.RndisResetComplete,
  rndis_halt_request: rndis.RndisPlain,
  rndis_indicate_status: rndis.RndisIndicateStatus,
  rndis_config_parameter_info: ConfigParameter,
};

for (const [name, ours] of Object.entries(OURS))
  test(`${name} lies in memory as in the kernel`, () => {
    const linux = LINUX[name];
    // What follows the fixed part (GPADL ranges, page numbers) begins where our layout ends.
    const theirs = new Set(Object.values(linux.members).filter((at) => at < linux.size));
    const offsets = offsetsOf(ours);
    // Linux spells two reserved qwords where we have an array.
    if (name === 'vmbus_channel_offer_channel') theirs.delete(48);
    // And one reserved array where newer guests say how their applications are.
    if (name === 'heartbeat_msg_data') theirs.add(HeartbeatBody.field.Reserved.offset);
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

test('what is longer here than in the kernel begins as it does there', () => {
  const { members: info, size } = LINUX.dm_info_msg;
  assert.deepEqual(offsetsOf(DmInfo), [0, 2, 4, info.reserved, info.info_size, size, size + 4, size + LINUX.dm_info_header.size]);
  assert.equal(VssBody.field.Flags.offset, LINUX.hv_vss_msg.members['vss_cf.flags']);
});
