/**
 * vPCI, the host's end of pci-hyperv (reference hyperv-arm64.md §9.10; microsoft/openvmm vm/devices/pci/vpci_protocol): a PCI bus with
 * one function behind it, an NVMe controller. Configuration space and BAR are MMIO that the guest places; a message of the function
 * (MSI-X) is an SPI that the guest has chosen.
 */
import { held, type Tree, uint } from '../../base/inspect.ts';
import { array, bytes, struct, u8, u16, u32, u64, viewOf } from '../../base/struct.ts';
import type { DiskConfig } from '../../config.ts';
import type { DiskError, DiskErrorOptions } from '../../index.ts';
import type { MmioRegion } from '../../memory/bus.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import { PACKET } from '../protocol.ts';
import type { Packet } from '../ring.ts';
import { ConfigSpace } from './pci/config-space.ts';
import { Nvme } from './pci/nvme.ts';

const BASE = 0x4249_0000;
export const PCI_MESSAGE = {
  busRelations: BASE,
  queryBusRelations: BASE + 1,
  powerStateChange: BASE + 4,
  queryResourceRequirements: BASE + 5,
  d0Entry: BASE + 7,
  d0Exit: BASE + 8,
  eject: BASE + 0xb,
  ejectionComplete: BASE + 0xf,
  resourcesAssigned: BASE + 0x10,
  resourcesReleased: BASE + 0x11,
  queryProtocolVersion: BASE + 0x13,
  createInterrupt: BASE + 0x14,
  deleteInterrupt: BASE + 0x15,
  resourcesAssigned2: BASE + 0x16,
  createInterrupt2: BASE + 0x17,
  busRelations2: BASE + 0x19,
  createInterrupt3: BASE + 0x1b,
} as const;
const NAMES = new Map<number, string>(Object.entries(PCI_MESSAGE).map(([name, type]) => [type, name]));

/** 1.1 (Windows 10), 1.2 (RS1), 1.3 (Vibranium), 1.4 (Windows Server 2022). */
const VERSIONS = [0x1_0001, 0x1_0002, 0x1_0003, 0x1_0004];
const VERSION_1_3 = 0x1_0003;

const child = { Type: u32, Slot: u32 };
const Child = struct('Child', child, { size: 8 });
const VersionRequest = struct('VersionRequest', { Type: u32, ProtocolVersion: u32 }, { size: 8 });
const D0Entry = struct('D0Entry', { Type: u32, Reserved: u32, MmioBase: u64 }, { size: 16 });
/** hv_msi_desc of 1.1, 1.2 and 1.4. Of the VPs that it names nobody asks: the GIC routes the SPI. */
const CreateInterrupt = struct('CreateInterrupt', { ...child, Vector: u8, Mode: u8, VectorCount: u16 });
const CreateInterrupt3 = struct('CreateInterrupt3', { ...child, Vector: u32, Mode: u8, Reserved: u8, VectorCount: u16 });
/** tran_int_desc. */
const interrupt = { Reserved16: u16, VectorCount: u16, Data: u32, Address: u64 };
const DeleteInterrupt = struct('DeleteInterrupt', { ...child, ...interrupt }, { size: 24 });
const InterruptCreated = struct('InterruptCreated', { Status: u32, Reserved: u32, ...interrupt }, { size: 24 });
const Status = struct('Status', { Status: u32, Reserved: u32 }, { size: 8 });
const Requirements = struct('Requirements', { Status: u32, ProbedBar: array(6, u32) }, { size: 28 });
const PowerState = struct('PowerState', { Status: u32, Slot: u32, State: u32, Reserved: u32 }, { size: 16 });
const description = {
  VendorId: u16,
  DeviceId: u16,
  Revision: u8,
  ProgInterface: u8,
  Subclass: u8,
  BaseClass: u8,
  SubsystemId: u32,
  Slot: u32,
  Serial: u32,
};
const Relations = struct('Relations', { Type: u32, Count: u32, ...description }, { size: 28 });
const Relations2 = struct(
  'Relations2',
  { Type: u32, Count: u32, ...description, Flags: u32, NumaNode: u16, Reserved: bytes(2) },
  { size: 36 },
);

const NT = {
  success: 0,
  invalidParameter: 0xc000_000d,
  noSuchDevice: 0xc000_000e,
  invalidDeviceRequest: 0xc000_0010,
  insufficientResources: 0xc000_009a,
  revisionMismatch: 0xc000_0059,
  invalidDeviceState: 0xc000_0184,
} as const;

/** The only function: device 0, function 0. */
const SLOT = 0;
const SERIAL = 1;
const CONFIG_PAGE = 0x1000;
const CONFIG_SIZE = 0x2000;
/** Where messages go: GICD_SETSPI_NSR of our distributor. Guests take it as it is. */
const MESSAGE_ADDRESS = 0xffff_0040n;
/** SPIs that guests may take for messages: from 64 (Linux) to what the distributor has. */
const FIRST_SPI = 64;
const LAST_SPI = 991;
/** More than the function has vectors, since a guest may hold old ones while it makes new ones. */
const MAX_INTERRUPTS = 64;

interface PciState {
  /** 0: not negotiated. */
  version: number;
  /** GPA of the configuration window while the bus is in D0, else -1. */
  window: number;
  slot: number;
  resources: boolean;
  ejected: boolean;
  /** A disk has come since: the bus is offered anew as soon as the guest has let go of it. */
  again: boolean;
  interrupts: { vector: number; count: number }[];
  messages: number;
  config: ConfigSpace['state'];
  nvme: Nvme['state'];
}

export class Pci implements Device {
  readonly name = 'pci';
  readonly offer = {
    interfaceType: '44c4f61d-4444-4400-9d52-802e27ede19f',
    // Bytes 4 and 5 are the PCI domain: 1.
    instance: 'a6b1f6d2-0001-47c9-9f4d-3a5d6f1c2b90',
    pipe: false,
    mmioMegabytes: 1,
  };
  readonly state: PciState;
  /** MMIO that comes and goes: size 0 while it is nowhere. */
  readonly regions: readonly MmioRegion[];
  readonly #channel: DeviceChannel;
  readonly #environment: DeviceEnvironment;
  readonly #config: ConfigSpace;
  readonly #nvme: Nvme;

  constructor(channel: DeviceChannel, environment: DeviceEnvironment) {
    this.#channel = channel;
    this.#environment = environment;
    const device = this;
    this.#nvme = new Nvme(
      {
        get mayMaster() {
          return device.#config.mayMaster;
        },
        interrupt: (n) => this.#config.interrupt(n),
        note: (message) => channel.note(`NVMe: ${message}`),
      },
      environment.clock,
      environment.ram,
    );
    this.#config = new ConfigSpace(this.#nvme, (address, data) => this.#message(address, data));
    this.state = {
      version: 0,
      window: -1,
      slot: 0,
      resources: false,
      ejected: false,
      again: false,
      interrupts: [],
      messages: 0,
      config: this.#config.state,
      nvme: this.#nvme.state,
    };
    this.regions = [
      {
        name: 'PCI configuration',
        get gpa() {
          return device.#windowAt;
        },
        get size() {
          return device.state.window < 0 ? 0 : CONFIG_SIZE;
        },
        read: (offset, size) => this.#readWindow(offset, size),
        write: (offset, size, value) => this.#writeWindow(offset, size, value),
      },
      {
        name: 'NVMe',
        get gpa() {
          return device.#barAt;
        },
        get size() {
          return device.#barAt === device.#nowhere ? 0 : device.#nvme.barSize;
        },
        read: (offset, size) => this.#readBar(offset, size),
        write: (offset, size, value) => this.#writeBar(offset, size, value),
      },
    ];
  }

  get absent(): boolean {
    return this.#nvme.names.length === 0 || this.state.ejected;
  }

  // --- the host's side ------------------------------------------------------------------------------------------------------------

  /** Gives the NVMe controller a disk; its namespace. A guest that has no bus yet, or no longer, gets one. Throws `ConfigError`. */
  attach(config: DiskConfig): number {
    const { state } = this;
    const id = this.#nvme.attach(config);
    if (state.ejected) Object.assign(state, { ejected: false, again: true });
    this.#channel.offerNow();
    return id;
  }

  /** Takes a disk away, and with the last one the controller. False: there is none of that name. */
  detach(name: string): boolean {
    const { names } = this.#nvme;
    if (!names.includes(name)) return false;
    if (names.length > 1) this.#nvme.detach(name);
    else if (!this.eject()) this.#gone();
    return true;
  }

  /** The next commands of a disk end in an error. False: there is none of that name. Throws `ConfigError` for what NVMe disks do not have. */
  inject(name: string, error: DiskError, options?: DiskErrorOptions): boolean {
    return this.#nvme.inject(name, error, options);
  }

  /** The function is no longer there, nor what was on it. */
  #gone(): void {
    for (const name of this.#nvme.names) this.#nvme.detach(name);
    Object.assign(this.state, { ejected: true, again: false });
    this.#channel.rescindNow();
  }

  has(name: string): boolean {
    return this.#nvme.has(name);
  }

  written(name: string): Iterable<[offset: number, data: Uint8Array]> {
    return this.#nvme.written(name);
  }

  /** Asks the guest to let go of the function, after which the bus is taken away. False: the guest has none. */
  eject(): boolean {
    if (this.state.window < 0 || this.state.ejected) return false;
    return this.#channel.send({ transactionId: 0n, payload: Child.make({ Type: PCI_MESSAGE.eject, Slot: SLOT }), what: 'eject' });
  }

  // --- the channel ----------------------------------------------------------------------------------------------------------------

  // The guest speaks first.
  onOpen(): void {
    this.state.again = false;
  }

  onClose(): void {
    this.#leaveD0();
    this.#nvme.reset();
    this.#config.reset();
    this.state.version = 0;
  }

  onReleased(channel: DeviceChannel): void {
    if (this.state.again) channel.offerNow();
  }

  onPacket(packet: Packet, channel: DeviceChannel): void {
    const { payload } = packet;
    const answer = (body: Uint8Array, what: string): void => {
      if (!packet.completionRequested) return;
      channel.send({ type: PACKET.completion, transactionId: packet.transactionId, payload: body, what });
    };
    const status = (code: number): void =>
      answer(Status.make({ Status: code }), code === 0 ? 'done' : `status 0x${code.toString(16)}`);
    if (packet.type !== PACKET.inBand) {
      if (packet.type !== PACKET.completion) channel.note(`packet of type ${packet.type}`);
      return;
    }
    if (payload.length < 8) {
      channel.note(`packet of ${payload.length} bytes`);
      status(NT.invalidParameter);
      return;
    }
    const view = viewOf(payload);
    const type = view.getUint32(0, true);
    const { state } = this;
    if (type === PCI_MESSAGE.queryProtocolVersion) {
      const { ProtocolVersion } = VersionRequest.get(view, 0);
      const known = VERSIONS.includes(ProtocolVersion);
      if (known) state.version = ProtocolVersion;
      status(known ? NT.success : NT.revisionMismatch);
      return;
    }
    if (state.version === 0) {
      channel.note(`${nameOf(type)} before the version is agreed`);
      status(NT.invalidDeviceState);
      return;
    }
    switch (type) {
      case PCI_MESSAGE.queryBusRelations:
        this.#sendRelations();
        return;
      case PCI_MESSAGE.d0Entry:
        status(payload.length < D0Entry.size ? NT.invalidParameter : this.#enterD0(D0Entry.get(view, 0).MmioBase));
        return;
      case PCI_MESSAGE.d0Exit:
        this.#leaveD0();
        status(NT.success);
        return;
    }
    // All others are about a function.
    const { Slot } = Child.get(view, 0);
    if (Slot !== SLOT || state.ejected) {
      if (type === PCI_MESSAGE.ejectionComplete || type === PCI_MESSAGE.resourcesReleased) return;
      channel.note(`${nameOf(type)} for slot ${Slot}`);
      status(NT.noSuchDevice);
      return;
    }
    switch (type) {
      case PCI_MESSAGE.queryResourceRequirements:
        answer(Requirements.make({ Status: NT.success, ProbedBar: this.#config.probedBars }), 'requirements');
        return;
      case PCI_MESSAGE.resourcesAssigned:
      case PCI_MESSAGE.resourcesAssigned2:
        state.resources = state.window >= 0;
        status(state.resources ? NT.success : NT.invalidDeviceState);
        return;
      case PCI_MESSAGE.resourcesReleased:
        state.resources = false;
        state.interrupts = [];
        status(NT.success);
        return;
      case PCI_MESSAGE.powerStateChange:
        answer(
          PowerState.make({ Status: NT.success, Slot, State: payload.length < 12 ? 0 : view.getUint32(8, true) }),
          'power state',
        );
        return;
      case PCI_MESSAGE.createInterrupt:
      case PCI_MESSAGE.createInterrupt2:
      case PCI_MESSAGE.createInterrupt3: {
        const layout = type === PCI_MESSAGE.createInterrupt3 ? CreateInterrupt3 : CreateInterrupt;
        if (payload.length < layout.size) status(NT.invalidParameter);
        else {
          const { Vector, VectorCount } = layout.get(view, 0);
          const code = this.#createInterrupt(Vector, VectorCount);
          const made = { VectorCount, Data: Vector, Address: MESSAGE_ADDRESS };
          answer(InterruptCreated.make({ Status: code, ...(code === NT.success ? made : {}) }), `interrupt ${Vector}`);
        }
        return;
      }
      case PCI_MESSAGE.deleteInterrupt: {
        const vector = payload.length < DeleteInterrupt.size ? -1 : DeleteInterrupt.get(view, 0).Data;
        // One of them: a guest that moves an interrupt makes the new one first.
        const at = state.interrupts.findIndex((i) => i.vector === vector);
        if (at >= 0) state.interrupts.splice(at, 1);
        else channel.note(`deletes interrupt ${vector}, which it has not made`);
        status(NT.success);
        return;
      }
      case PCI_MESSAGE.ejectionComplete:
        channel.report('the guest has let go of the NVMe controller', true);
        this.#gone();
        return;
      default:
        channel.note(`${nameOf(type)}: no such request here`);
        status(NT.invalidDeviceRequest);
    }
  }

  describe({ payload, type }: Packet): string {
    if (payload.length < 4) return 'too short';
    const first = viewOf(payload).getUint32(0, true);
    // An answer begins with its status.
    return type === PACKET.completion ? `answer, status 0x${first.toString(16)}` : nameOf(first);
  }

  inspect(): Tree {
    const { version, window, resources, interrupts, config } = this.state;
    const hex = (n: number): string => (n < 0 ? 'nowhere' : `0x${n.toString(16)}`);
    return {
      ...(version ? { version: `${version >>> 16}.${version & 0xffff}` } : {}),
      power: window < 0 ? 'off' : 'D0',
      configuration: hex(window),
      resources,
      interrupts: interrupts.map((i) => ({ spi: i.vector, count: i.count })),
      messages: held(this.state, 'messages', uint(53)),
      command: config.command,
      bar0: hex(this.#config.bar),
      nvme: this.#nvme.inspect(),
    };
  }

  // --- the bus --------------------------------------------------------------------------------------------------------------------

  #sendRelations(): void {
    const { version, ejected } = this.state;
    const { ids } = this.#nvme;
    const layout = version >= VERSION_1_3 ? Relations2 : Relations;
    const payload = layout.make({
      Type: version >= VERSION_1_3 ? PCI_MESSAGE.busRelations2 : PCI_MESSAGE.busRelations,
      Count: ejected ? 0 : 1,
      VendorId: ids.vendor,
      DeviceId: ids.device,
      Revision: ids.revision,
      ProgInterface: ids.programmingInterface,
      Subclass: ids.subclass,
      BaseClass: ids.baseClass,
      SubsystemId: ids.subsystemVendor | (ids.subsystem << 16),
      Slot: SLOT,
      Serial: SERIAL,
    });
    this.#channel.send({ transactionId: 0n, payload, what: 'bus relations' });
  }

  #enterD0(base: bigint): number {
    const { state } = this;
    if (state.window >= 0) return NT.invalidDeviceState;
    const gpa = Number(base);
    if (!this.#placeable(gpa, CONFIG_SIZE) || gpa % CONFIG_PAGE !== 0) return NT.invalidParameter;
    state.window = gpa;
    return NT.success;
  }

  /** The function is reset with it; interrupts go. */
  #leaveD0(): void {
    Object.assign(this.state, { window: -1, slot: 0, resources: false, interrupts: [] });
    this.#nvme.reset();
    this.#config.reset();
  }

  #createInterrupt(vector: number, count: number): number {
    const { interrupts, window } = this.state;
    if (window < 0) return NT.invalidDeviceState;
    if (count < 1 || vector < FIRST_SPI || vector + count - 1 > LAST_SPI) return NT.invalidParameter;
    if (interrupts.length >= MAX_INTERRUPTS) return NT.insufficientResources;
    interrupts.push({ vector, count });
    return NT.success;
  }

  /** The function writes a message: an interrupt that the guest has made, or nothing. */
  #message(address: bigint, data: number): void {
    const made = this.state.interrupts.some((i) => data >= i.vector && data < i.vector + i.count);
    if (address !== MESSAGE_ADDRESS || !made) {
      this.#channel.note(`message 0x${data.toString(16)} to 0x${address.toString(16)}, which no interrupt was made for`);
      return;
    }
    this.state.messages++;
    this.#environment.raiseSpi(data);
  }

  // --- MMIO -----------------------------------------------------------------------------------------------------------------------

  /** An address inside the windows that regions of size 0 stay at. */
  get #nowhere(): number {
    return this.#environment.mmio[0]?.gpa ?? Number.MAX_SAFE_INTEGER;
  }

  get #windowAt(): number {
    return this.state.window < 0 ? this.#nowhere : this.state.window;
  }

  /** Where BAR 0 answers: the guest may have placed it where nothing of ours can be. */
  get #barAt(): number {
    const { bar } = this.#config;
    return this.state.window >= 0 && bar >= 0 && this.#placeable(bar, this.#nvme.barSize) ? bar : this.#nowhere;
  }

  /** [gpa, gpa + size) is in the MMIO windows. Every MMIO access asks this. */
  #placeable(gpa: number, size: number): boolean {
    for (const w of this.#environment.mmio) if (gpa >= w.gpa && gpa + size <= w.gpa + w.size) return true;
    return false;
  }

  #readWindow(offset: number, size: number): bigint {
    if (offset < CONFIG_PAGE) return offset === 0 ? BigInt.asUintN(8 * size, BigInt(this.state.slot)) : 0n;
    // No such function: all ones.
    if (this.state.slot !== SLOT || this.state.ejected) return BigInt.asUintN(8 * size, -1n);
    return this.#config.read(offset - CONFIG_PAGE, size);
  }

  #writeWindow(offset: number, size: number, value: bigint): void {
    if (offset < CONFIG_PAGE) {
      if (offset === 0) this.state.slot = Number(value & 0xffff_ffffn);
    } else if (this.state.slot === SLOT && !this.state.ejected) this.#config.write(offset - CONFIG_PAGE, size, value);
  }

  #readBar(offset: number, size: number): bigint {
    const { tableOffset, pendingOffset } = this.#nvme;
    if (offset >= pendingOffset) return this.#config.readPending(offset - pendingOffset, size);
    if (offset >= tableOffset) return this.#config.readTable(offset - tableOffset, size);
    return this.#nvme.read(offset, size);
  }

  #writeBar(offset: number, size: number, value: bigint): void {
    const { tableOffset, pendingOffset } = this.#nvme;
    if (offset >= pendingOffset) return;
    if (offset >= tableOffset) this.#config.writeTable(offset - tableOffset, size, value);
    else this.#nvme.write(offset, size, value);
  }
}

const nameOf = (type: number): string => NAMES.get(type) ?? `message 0x${type.toString(16)}`;
