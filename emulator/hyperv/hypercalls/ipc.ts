/** Inter-partition communication: HvCallPostMessage and HvCallSignalEvent (reference hyperv-arm64.md §2.7, §8.1). */
import type { Value } from '../../base/struct.ts';
import { HV_EVENT_FLAGS_COUNT, HV_MESSAGE_PAYLOAD_BYTE_COUNT, HvInputPostMessage, HvInputSignalEvent, STATUS } from '../tlfs.ts';
import { type Hypercall, simple } from './hypercall.ts';

/** Connection ids have 24 bits; message types of the hypervisor itself have bit 31. */
const connectionOf = (input: { ConnectionId: number }): number => input.ConnectionId & 0xff_ffff;
const HYPERVISOR_MESSAGE = 0x8000_0000;

const payloadOf = (input: Value<typeof HvInputPostMessage>): Uint8Array =>
  input.Payload.subarray(0, Math.min(input.PayloadSize, HV_MESSAGE_PAYLOAD_BYTE_COUNT));

export const IPC: readonly Hypercall[] = [
  simple('HvCallPostMessage', {
    input: HvInputPostMessage,
    show(input, partition) {
      const { ConnectionId, MessageType, PayloadSize } = input;
      const payload = payloadOf(input);
      const decoded = partition.messagePort(connectionOf(input))?.describe(MessageType, payload);
      return { ConnectionId, MessageType, PayloadSize, ...(decoded ? { Message: decoded } : { Payload: payload }) };
    },
    run({ partition, vp }, input) {
      if (input.PayloadSize > HV_MESSAGE_PAYLOAD_BYTE_COUNT) return STATUS.INVALID_PARAMETER;
      if (input.MessageType & HYPERVISOR_MESSAGE) return STATUS.INVALID_PARAMETER;
      const port = partition.messagePort(connectionOf(input));
      return port ? port.post(vp, input.MessageType, payloadOf(input)) : STATUS.INVALID_CONNECTION_ID;
    },
  }),
  simple('HvCallSignalEvent', {
    input: HvInputSignalEvent,
    run({ partition, vp }, input) {
      if (input.FlagNumber >= HV_EVENT_FLAGS_COUNT) return STATUS.INVALID_PARAMETER;
      const id = connectionOf(input);
      const port = partition.eventPort(id);
      return port ? port(vp, id, input.FlagNumber) : STATUS.INVALID_CONNECTION_ID;
    },
  }),
];
