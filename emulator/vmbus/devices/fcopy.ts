/**
 * The file copy IC (guest services): the host puts files into the guest, in fragments that the guest answers one by one
 * (reference hyperv-arm64.md §9.6). The guest answers once its daemon runs. Linux up to 6.9 has a driver of its own for it, later
 * ones leave the channel to a daemon by uio_hv_generic: to the host that is the same.
 */
import { held, type Tree, uint } from '../../base/inspect.ts';
import { array, bytes, struct, u16, u32, u64 } from '../../base/struct.ts';
import { freeze } from '../../base/frozen.ts';
import { ConfigError, type CopyRequest } from '../../config.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import type { FcopyService } from '../services.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc, unanswered } from './ic.ts';
import { unitsOf } from './kvp.ts';
import { STATUS, statusText } from './status.ts';

const PATH_LENGTH = 260;
const FRAGMENT = 6144;

/** Two service ids, which nobody looks at, lie between operation and what follows. */
export const FcopyHeader = struct('FcopyHeader', { Operation: u32, ServiceId0: bytes(16), ServiceId1: bytes(16) }, { size: 36 });
export const FcopyStart = struct(
  'FcopyStart',
  { Header: FcopyHeader, FileName: array(PATH_LENGTH, u16), PathName: array(PATH_LENGTH, u16), Flags: u32, FileSize: u64 },
  { size: 1088 },
);
export const FcopyWrite = struct(
  'FcopyWrite',
  { Header: FcopyHeader, Padding: u32, Offset: u64, Size: u32, Data: bytes(FRAGMENT) },
  { size: 6196 },
);

const OPERATION = { start: 0, write: 1, complete: 2, cancel: 3 } as const;
const FLAG_OVERWRITE = 1;
const FLAG_CREATE_PATH = 2;

/** Linux' driver speaks before its daemon is there, and refuses files until then: so often and so long they are tried again. */
const TRIES = 120;
const RETRY_NS = 500_000_000;
const ALARM = 'vmbus/fcopy';
/** Files wait so long, from the first one on, for a guest that takes them: a kernel without the driver never does. */
const ABSENT_NS = 300_000_000_000;
const ABSENT_ALARM = 'vmbus/fcopy/absent';

interface Copy {
  to: string;
  flags: number;
  /** Nobody writes it: snapshots share it. */
  bytes: Uint8Array;
}

interface FcopyState {
  ic: IcState;
  /** Files to copy, the first under way. */
  copies: Copy[];
  /** What the guest is to answer. */
  waiting: keyof typeof OPERATION | 'nothing';
  /** Bytes of the first file that the guest has taken. */
  done: number;
  /** Why the first file is given up, an HRESULT; 0: it is not. */
  failed: number;
  /** Starts that failed while nothing shows yet that the guest's daemon is there; -1: it is. */
  tries: number;
  /** Files so far, and the last one with what came of it. */
  copied: number;
  last: string;
}

export class Fcopy implements Device, IcComponent, FcopyService {
  readonly name = 'fcopy';
  readonly offer = {
    interfaceType: '34d14be3-dee4-41c8-9ae7-6b174977c192',
    instance: 'eb765408-105f-49b6-b4aa-c123b64d17d4',
    pipe: true,
  };
  readonly messageType = IC_MESSAGE.fcopy;
  readonly versions = [[1, 1]] as const;
  readonly state: FcopyState = { ic: newIc(), copies: [], waiting: 'nothing', done: 0, failed: 0, tries: 0, copied: 0, last: '' };
  readonly #channel: DeviceChannel;
  readonly #clock: DeviceEnvironment['clock'];
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, { clock }: DeviceEnvironment) {
    this.#channel = channel;
    this.#clock = clock;
    this.#link = new IcLink(channel, this, this.state.ic, clock);
    clock.on(ALARM, () => this.#next());
    clock.on(ABSENT_ALARM, () => this.#absent());
  }

  copy({ to, bytes: data, overwrite = false, createPath = false }: CopyRequest): void {
    const { path, name } = splitPath(to);
    for (const [what, text] of Object.entries({ folder: path, name }))
      if (text.length >= PATH_LENGTH) throw new ConfigError(`${to}: its ${what} has more than ${PATH_LENGTH - 1} characters`);
    const flags = (overwrite ? FLAG_OVERWRITE : 0) | (createPath ? FLAG_CREATE_PATH : 0);
    this.state.copies.push({ to, flags, bytes: freeze(data.slice()) });
    this.#next();
    this.#expect();
  }

  cancel(): number {
    const { state } = this;
    const { length } = state.copies;
    // The one under way ends with the guest's next answer.
    if (state.waiting === 'nothing') state.copies = [];
    else {
      state.copies.length = 1;
      if (state.failed === 0) state.failed = CANCELLED;
    }
    return length;
  }

  onOpen(): void {
    this.#begin();
    this.state.tries = 0;
    this.#link.onOpen();
  }
  onPacket(packet: Packet): void {
    this.#link.onPacket(packet);
  }
  onClose(): void {
    // What was under way begins anew with the next guest, from its start.
    this.#begin();
    this.#clock.cancel(ALARM);
    this.#link.onClose();
    this.#expect();
  }

  onReady(): void {
    this.#clock.cancel(ABSENT_ALARM);
    this.#next();
  }

  onAnswer(status: number): void {
    const { state } = this;
    const copy = state.copies.at(0);
    const { waiting } = state;
    if (waiting === 'nothing' || !copy) {
      this.#channel.note('answer to no request');
      return;
    }
    state.waiting = 'nothing';
    if (waiting === 'cancel') {
      this.#end(copy, state.failed);
      return;
    }
    if (waiting === 'start' && status === STATUS.fail && state.failed === 0 && state.tries >= 0 && state.tries < TRIES) {
      state.tries++;
      this.#clock.set(ALARM, this.#clock.now + RETRY_NS);
      return;
    }
    if (status !== STATUS.fail) state.tries = -1;
    if (status !== 0) state.failed = status;
    // A file that was never begun, or is there already, needs no cancelling.
    if (waiting === 'complete' || (waiting === 'start' && status !== 0)) {
      this.#end(copy, status);
      return;
    }
    if (state.failed !== 0) this.#send('cancel', FcopyHeader.make({ Operation: OPERATION.cancel }), `cancel ${copy.to}`);
    else {
      if (waiting === 'write') state.done = Math.min(copy.bytes.length, state.done + FRAGMENT);
      this.#fragment(copy);
    }
  }

  /** The file under way is given up; whether the guest takes the next one is seen then. */
  onLate(): void {
    const [copy] = this.state.copies;
    if (copy) this.#give(copy, unanswered());
  }

  about(body: DataView): string {
    if (body.byteLength < FcopyHeader.size) return '';
    const operation = FcopyHeader.get(body, 0).Operation;
    const name = Object.entries(OPERATION).find(([, n]) => n === operation)?.[0] ?? `operation ${operation}`;
    if (operation !== OPERATION.write || body.byteLength < FcopyWrite.field.Data.offset) return name;
    const { Offset, Size } = FcopyWrite.field;
    return `${name} ${Size.get(body, Size.offset)} bytes at ${Offset.get(body, Offset.offset)}`;
  }
  describe(packet: Packet): string {
    return this.#link.describe(packet);
  }

  inspect(): Tree {
    const { copies, done, last } = this.state;
    const [first] = copies;
    return {
      ...this.#link.inspect(),
      copied: held(this.state, 'copied', uint(32)),
      ...(first ? { copying: first.to, done, size: first.bytes.length, waiting: copies.length - 1 } : {}),
      ...(last === '' ? {} : { last }),
    };
  }

  #begin(): void {
    Object.assign(this.state, { waiting: 'nothing', done: 0, failed: 0 });
  }

  /** Waits for a guest that takes files, if there are any and there is none. */
  #expect(): void {
    if (this.state.copies.length === 0 || this.#link.ready) this.#clock.cancel(ABSENT_ALARM);
    else if (!this.#clock.state.alarms.some((a) => a.id === ABSENT_ALARM))
      this.#clock.set(ABSENT_ALARM, this.#clock.now + ABSENT_NS);
  }

  #absent(): void {
    for (const copy of [...this.state.copies])
      this.#give(copy, `the guest's file copy service has not come up within ${ABSENT_NS / 1e9} s`);
  }

  /** Gives a file up, which is the first one. */
  #give({ to }: Copy, why: string): void {
    const { state } = this;
    state.copies.shift();
    state.last = `${to}: ${why}`;
    this.#begin();
    this.#channel.report(state.last, false);
    this.#next();
  }

  /** Begins with the first file when nothing is under way. */
  #next(): void {
    const { state } = this;
    const copy = state.copies.at(0);
    if (!copy || state.waiting !== 'nothing' || !this.#link.ready) return;
    this.#begin();
    const { path, name } = splitPath(copy.to);
    const body = FcopyStart.make({
      Header: { ...FcopyHeader.zero(), Operation: OPERATION.start },
      FileName: unitsOf(name, PATH_LENGTH),
      PathName: unitsOf(path, PATH_LENGTH),
      Flags: copy.flags,
      FileSize: BigInt(copy.bytes.length),
    });
    this.#send('start', body, `start ${copy.to}, ${copy.bytes.length} bytes`);
  }

  #fragment({ to, bytes: data }: Copy): void {
    const { done } = this.state;
    if (done === data.length) {
      this.#send('complete', FcopyHeader.make({ Operation: OPERATION.complete }), `complete ${to}`);
      return;
    }
    const Data = data.subarray(done, done + FRAGMENT);
    const Header = { ...FcopyHeader.zero(), Operation: OPERATION.write };
    // The guest reads the whole of the structure, whatever its size says.
    const body = FcopyWrite.make({ Header, Offset: BigInt(done), Size: Data.length, Data });
    this.#send('write', body, `write ${to} ${done}..${done + Data.length}`);
  }

  #send(operation: keyof typeof OPERATION, body: Uint8Array, what: string): void {
    // What cannot be sent is begun anew when the channel is open again.
    this.state.waiting = this.#link.request(body, what) ? operation : 'nothing';
  }

  #end({ to, bytes: data }: Copy, status: number): void {
    const { state } = this;
    state.copies.shift();
    state.last = `${to}: ${status === CANCELLED ? 'cancelled' : status === 0 ? `${data.length} bytes copied` : statusText(status)}`;
    if (status === 0) state.copied++;
    this.#begin();
    this.#channel.report(state.last, status === 0);
    this.#next();
  }
}

/** E_ABORT: the host itself gave up. */
const CANCELLED = 0x8000_4004;

function splitPath(to: string): { path: string; name: string } {
  const at = to.lastIndexOf('/');
  const name = to.slice(at + 1);
  if (!to.startsWith('/') || name === '' || to.includes('\0'))
    throw new ConfigError(`${to}: not the full path of a file in the guest`);
  // The daemon looks for folders, and makes them, up to the last slash.
  return { path: to.slice(0, at + 1), name };
}
