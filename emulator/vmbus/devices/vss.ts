/**
 * The backup IC (VSS): the host has the guest's file systems frozen while it takes a backup (reference hyperv-arm64.md §9.6).
 * The guest answers once its daemon runs; one operation is under way at a time.
 */
import { choice, held, type Tree } from '../../base/inspect.ts';
import { bytes, struct, u8, u32 } from '../../base/struct.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import type { VssService } from '../services.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc, PATIENCE_NS, unanswered } from './ic.ts';
import { statusText } from './status.ts';

/** A message is as long as Hyper-V's longest, whatever the operation: guests give back what they got. */
export const VssBody = struct('IcVss', { Operation: u8, Reserved: bytes(7), Flags: u32, Rest: bytes(52) }, { size: 64 });

/** Numbers of include/uapi/linux/hyperv.h, enum hv_vss_op. */
const OPERATION = { 'hot backup': 2, 'backup complete': 4, freeze: 5, thaw: 6 } as const;
type Operation = keyof typeof OPERATION;
/** Linux gives its daemon 15 minutes to freeze file systems (VSS_FREEZE_TIMEOUT of drivers/hv/hv_snapshot.c). */
const patience = (operation: Operation): number => (operation === 'freeze' ? 16 * 60_000_000_000 : PATIENCE_NS);
/** The guest's answer to `hot backup`: it cannot roll back to the backup's moment by itself when it is restored. */
const NO_AUTO_RECOVERY = 5;

interface VssState {
  ic: IcState;
  /** Operations to do, the first under way. */
  operations: Operation[];
  /** What is known of the file systems. */
  fileSystems: 'thawed' | 'frozen';
  /** The answer to `hot backup`. */
  autoRecovery: boolean;
  /** The last operation that ended, and its HRESULT. */
  last: Operation | 'none';
  status: number;
}

const newState = (): Omit<VssState, 'ic'> => ({
  operations: [],
  fileSystems: 'thawed',
  autoRecovery: true,
  last: 'none',
  status: 0,
});

export class Vss implements Device, IcComponent, VssService {
  readonly name = 'vss';
  readonly offer = {
    interfaceType: '35fa2e29-ea23-4236-96ae-3a6ebacba440',
    instance: '2450ee40-33bf-4fbd-892e-9fb06e9214cf',
    pipe: true,
  };
  readonly messageType = IC_MESSAGE.vss;
  readonly versions = [[5, 0]] as const;
  readonly state: VssState = { ic: newIc(), ...newState() };
  readonly #channel: DeviceChannel;
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, { clock }: DeviceEnvironment) {
    this.#channel = channel;
    this.#link = new IcLink(channel, this, this.state.ic, clock);
  }

  freeze(): boolean {
    return this.#start(['hot backup', 'freeze']);
  }
  thaw(): boolean {
    return this.#start(['thaw', 'backup complete']);
  }

  onOpen(): void {
    Object.assign(this.state, newState());
    this.#link.onOpen();
  }
  onPacket(packet: Packet): void {
    this.#link.onPacket(packet);
  }
  onClose(): void {
    Object.assign(this.state, newState());
    this.#link.onClose();
  }

  onReady(): void {}

  onAnswer(status: number, body: DataView): void {
    const { state } = this;
    const operation = state.operations.shift();
    if (operation === undefined) {
      this.#channel.note('answer to no request');
      return;
    }
    Object.assign(state, { last: operation, status });
    const ok = status === 0;
    if (ok && operation === 'freeze') state.fileSystems = 'frozen';
    if (ok && operation === 'thaw') state.fileSystems = 'thawed';
    const { Flags } = VssBody.field;
    if (ok && operation === 'hot backup' && body.byteLength >= Flags.offset + Flags.size)
      state.autoRecovery = Flags.get(body, Flags.offset) !== NO_AUTO_RECOVERY;
    this.#channel.report(`${operation}: ${statusText(status)}`, ok);
    if (!ok) state.operations = [];
    else this.#next();
  }

  onLate(): void {
    const { state } = this;
    const [operation] = state.operations;
    state.operations = [];
    if (operation !== undefined) this.#channel.report(`${operation}: ${unanswered(patience(operation))}`, false);
  }

  about(body: DataView): string {
    const operation = body.byteLength > 0 ? body.getUint8(0) : 0;
    return Object.entries(OPERATION).find(([, n]) => n === operation)?.[0] ?? `operation ${operation}`;
  }
  describe(packet: Packet): string {
    return this.#link.describe(packet);
  }

  inspect(): Tree {
    const { operations, autoRecovery, last, status } = this.state;
    return {
      ...this.#link.inspect(),
      fileSystems: held(this.state, 'fileSystems', choice('thawed', 'frozen')),
      ...(operations.length > 0 ? { operation: operations[0] } : {}),
      ...(last === 'none' ? {} : { last, status: statusText(status), autoRecovery }),
    };
  }

  #start(operations: Operation[]): boolean {
    const { state } = this;
    if (!this.#link.ready || state.operations.length > 0) return false;
    state.operations = operations;
    return this.#next();
  }

  #next(): boolean {
    const { operations } = this.state;
    const operation = operations.at(0);
    if (operation === undefined) return true;
    if (this.#link.request(VssBody.make({ Operation: OPERATION[operation] }), operation, patience(operation))) return true;
    operations.length = 0;
    return false;
  }
}
