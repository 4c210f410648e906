/**
 * What a guest's network card is plugged into: a virtual gateway that speaks ARP, IPv4, ICMP, DHCP and DNS, on the untagged
 * network and on VLANs, and is an IPv6 neighbour (ipv6.ts). `internal`: it has services of its own (services.ts) and there is
 * nothing behind it. `user`: TCP and UDP go out of the machine, by whoever answers its requests (outside.ts). No privileges, no
 * raw packets, nothing comes in that the guest did not ask for.
 */
import { freeze } from '../base/frozen.ts';
import { viewOf } from '../base/struct.ts';
import type { Clock } from '../base/clock.ts';
import { DHCP_PORT, dhcpReply } from './dhcp.ts';
import { DNS_STATUS, dnsAnswer, parseDns, RECORD } from './dns.ts';
import { ipv6Answer } from './ipv6.ts';
import { type NetworkEvent, type NetworkRequest, OUTSIDE, outside, relay } from './outside.ts';
import {
  Arp,
  ARP_OPERATION,
  BROADCAST,
  ETHERTYPE,
  type Ethernet,
  ICMP,
  type Ipv4,
  IPV4_HEADER,
  ipText,
  isGroup,
  macText,
  makeEthernet,
  makeIcmp,
  makeIpv4,
  makeTcp,
  makeUdp,
  parseEthernet,
  parseIcmp,
  parseIp,
  parseIpv4,
  parseTcp,
  parseUdp,
  PROTOCOL,
  type Udp,
  UNREACHABLE,
} from './packet.ts';
import { APPLICATIONS, SERVICES, UDP_SERVICES } from './services.ts';
import { newTcp, type TcpApplication, type TcpEnds, TcpStack, type TcpState } from './tcp.ts';

export type NetworkMode = 'internal' | 'user';

export interface GatewaySettings {
  mode: NetworkMode;
  /** VLAN ids on which the gateway is as well. */
  vlans: readonly number[];
  /** Names that its DNS server knows, in lower case. */
  names: Readonly<Record<string, number>>;
}

/** A UDP conversation with the outside. */
interface Flow extends TcpEnds {
  id: number;
  heard: number;
}

/** A question that the outside has to answer. */
interface Question extends TcpEnds {
  id: number;
  name: string;
  bytes: Uint8Array;
}

/** A datagram of which not all is there. */
interface Assembly {
  vlan: number;
  source: number;
  destination: number;
  protocol: number;
  identification: number;
  pieces: { offset: number; data: Uint8Array }[];
  /** Known once the last fragment is there; -1 before. */
  length: number;
  due: number;
}

export interface GatewayState {
  settings: { mode: NetworkMode; vlans: number[]; names: Record<string, number> };
  /** Frames of the guest that are on their way. */
  wire: { due: number; frame: Uint8Array }[];
  /** MAC addresses by `VLAN/address`. */
  neighbours: Record<string, number>;
  /** Last byte of the addresses given out, by `VLAN/MAC address`. */
  leases: Record<string, number>;
  tcp: TcpState;
  flows: Flow[];
  questions: Question[];
  assemblies: Assembly[];
  nextId: number;
  identification: number;
  /** Frames that made no sense here. */
  dropped: number;
}

export const newGateway = (): GatewayState => ({
  settings: { mode: 'internal', vlans: [], names: {} },
  wire: [],
  neighbours: {},
  leases: {},
  tcp: newTcp(),
  flows: [],
  questions: [],
  assemblies: [],
  nextId: 1,
  identification: 1,
  dropped: 0,
});

/** What the gateway needs of the machine around it. */
export interface GatewayHost {
  readonly clock: Clock;
  /** The largest IP datagram of the link. */
  mtu(): number;
  /** Frames for the guest, in order. */
  deliver(frames: Uint8Array[]): void;
  ask(request: NetworkRequest): void;
}

/** The gateway's own MAC address: a locally administered one. */
export const GATEWAY_MAC = 0x0215_5d00_0002;
/** The network without VLAN, and those of VLANs, each /24: 10.0.2.0, and for VLAN n 10.128.0.0 + 256 n. */
const UNTAGGED = 0x0a00_0200;
const TAGGED = 0x0a80_0000;
export const networkOf = (vlan: number): number => (vlan === 0 ? UNTAGGED : TAGGED + 256 * vlan);
const MASK = 0xffff_ff00;
/** Last bytes of addresses: the gateway, its DNS server, and the first that is given out. */
const GATEWAY = 2;
const DNS = 3;
const FIRST_LEASE = 15;
const LAST_LEASE = 254;

const WIRE_ALARM = 'network/wire';
const MS = 1_000_000;
/** From the guest's card to the gateway, ns. */
const LATENCY = 50_000;
const FLOW_TIMEOUT = 60_000 * MS;
const ASSEMBLY_TIMEOUT = 30_000 * MS;
const MAX_WIRE = 8192;
const MAX_NEIGHBOURS = 1024;
const MAX_FLOWS = 256;
const MAX_QUESTIONS = 64;
const MAX_ASSEMBLIES = 16;
const MAX_DATAGRAM = 65_535;
const ALL_ONES = 0xffff_ffff;
const DNS_PORT = 53;

export class Gateway {
  readonly state: GatewayState;
  readonly #host: GatewayHost;
  readonly #tcp: TcpStack;
  /** Frames for the guest that the present events have brought about. */
  #out: Uint8Array[] = [];

  constructor(host: GatewayHost, state: GatewayState) {
    this.#host = host;
    this.state = state;
    const toOutside = outside(
      (request) => host.ask(request),
      ({ vlan, local }) => this.#outsideAddress(vlan, local),
    );
    const applications: Record<string, TcpApplication> = { ...APPLICATIONS, [OUTSIDE]: toOutside };
    const { clock } = host;
    this.#tcp = new TcpStack(
      {
        clock,
        mtu: () => host.mtu(),
        together: (work) => this.#together(work),
        send: (ends, segment) => this.#sendIp(ends, PROTOCOL.tcp, makeTcp(ends.local, ends.remote, segment)),
        application: (name) => applications[name],
      },
      state.tcp,
    );
    clock.on(WIRE_ALARM, () => this.#arrive());
  }

  /** How the gateway is to be from now on. */
  configure(settings: GatewaySettings): void {
    const { mode, vlans, names } = settings;
    Object.assign(this.state.settings, { mode, vlans: [...vlans], names: { ...names } });
  }

  /** A frame of the guest. */
  transmit(frame: Uint8Array): void {
    const { wire } = this.state;
    const { clock } = this.#host;
    if (wire.length >= MAX_WIRE) {
      this.state.dropped++;
      return;
    }
    wire.push({ due: clock.now + LATENCY, frame: freeze(frame) });
    if (wire.length === 1) clock.set(WIRE_ALARM, wire[0].due);
  }

  /** Something has happened outside. */
  event(event: NetworkEvent): void {
    this.#together(() => this.#outsideEvent(event));
  }

  // --- arriving ---------------------------------------------------------------------------------------------------------------

  /** Does something, and then sends everything that came of it at once. */
  #together(work: () => void): void {
    work();
    this.#tcp.flush();
    const frames = this.#out;
    this.#out = [];
    if (frames.length > 0) this.#host.deliver(frames);
  }

  #arrive(): void {
    const { wire } = this.state;
    const { clock } = this.#host;
    this.#together(() => {
      while (wire.length > 0 && wire[0].due <= clock.now) this.#frame((wire.shift() as GatewayState['wire'][number]).frame);
    });
    if (wire.length > 0) clock.set(WIRE_ALARM, wire[0].due);
  }

  #frame(frame: Uint8Array): void {
    const e = parseEthernet(frame);
    // VLAN 0 is a priority and no VLAN (IEEE 802.1Q 6.9).
    const vlan = (e?.tag ?? 0) & 0xfff;
    const here = vlan === 0 || this.state.settings.vlans.includes(vlan);
    const understood =
      e !== undefined && here && (e.destination === GATEWAY_MAC || isGroup(e.destination)) && this.#understand(vlan, e);
    if (!understood) this.state.dropped++;
  }

  #understand(vlan: number, e: Ethernet): boolean {
    switch (e.type) {
      case ETHERTYPE.arp:
        return this.#arp(vlan, e);
      case ETHERTYPE.ipv4:
        return this.#ip(vlan, e);
      case ETHERTYPE.ipv6: {
        const answer = isGroup(e.source) ? undefined : ipv6Answer(e, GATEWAY_MAC);
        if (answer) this.#send(vlan, answer.destination, ETHERTYPE.ipv6, answer.payload);
        return answer !== undefined;
      }
      default:
        return false;
    }
  }

  #own(vlan: number, address: number): boolean {
    return address === networkOf(vlan) + GATEWAY || address === networkOf(vlan) + DNS;
  }

  /** Remembers where an address is. False: it cannot be here. */
  #learn(vlan: number, address: number, mac: number): boolean {
    if ((address & MASK) >>> 0 !== networkOf(vlan) || this.#own(vlan, address) || isGroup(mac)) return false;
    const { neighbours } = this.state;
    const key = `${vlan}/${ipText(address)}`;
    if (!(key in neighbours) && Object.keys(neighbours).length >= MAX_NEIGHBOURS) return false;
    neighbours[key] = mac;
    return true;
  }

  #arp(vlan: number, { source, payload }: Ethernet): boolean {
    if (payload.length < Arp.size) return false;
    const a = Arp.get(viewOf(payload), 0);
    const known = a.HardwareType === 1 && a.ProtocolType === ETHERTYPE.ipv4 && a.HardwareLength === 6 && a.ProtocolLength === 4;
    if (!known) return false;
    // A probe (RFC 5227) comes from nobody yet.
    if (a.SenderIp !== 0 && !this.#learn(vlan, a.SenderIp, a.SenderMac)) return false;
    if (a.Operation !== ARP_OPERATION.request || !this.#own(vlan, a.TargetIp)) return true;
    const answer = Arp.make({
      ...a,
      Operation: ARP_OPERATION.reply,
      SenderMac: GATEWAY_MAC,
      SenderIp: a.TargetIp,
      TargetMac: a.SenderMac,
      TargetIp: a.SenderIp,
    });
    this.#send(vlan, source, ETHERTYPE.arp, answer);
    return true;
  }

  // --- IPv4 -------------------------------------------------------------------------------------------------------------------

  #ip(vlan: number, e: Ethernet): boolean {
    const p = parseIpv4(e.payload);
    if (!p) return false;
    if (p.protocol === PROTOCOL.udp && this.#dhcp(vlan, p)) return true;
    if (!this.#learn(vlan, p.source, e.source)) return false;
    const whole = p.offset > 0 || p.more ? this.#assemble(vlan, p) : p;
    if (!whole) return true;
    const top = p.destination >>> 24;
    // Nobody listens to groups and broadcasts; and these networks are on no wire.
    if (top >= 224 || top === 0 || top === 127 || p.destination === networkOf(vlan) + 255) return true;
    const head = e.payload.subarray(0, IPV4_HEADER + 8);
    if (whole.protocol === PROTOCOL.icmp) this.#icmp(vlan, whole, head);
    else if (whole.protocol === PROTOCOL.tcp) return this.#tcpSegment(vlan, whole, head);
    else if (whole.protocol === PROTOCOL.udp) return this.#udp(vlan, whole, head);
    else this.#unreachable(vlan, whole, UNREACHABLE.prohibited, head);
    return true;
  }

  /** A fragment; the whole datagram once it is there. */
  #assemble(vlan: number, p: Ipv4): Ipv4 | undefined {
    const { assemblies } = this.state;
    const { now } = this.#host.clock;
    const old = assemblies.findIndex((a) => a.due <= now);
    if (old >= 0) assemblies.splice(old, 1);
    let a = assemblies.find(
      (x) =>
        x.vlan === vlan &&
        x.source === p.source &&
        x.destination === p.destination &&
        x.protocol === p.protocol &&
        x.identification === p.identification,
    );
    if (!a) {
      if (assemblies.length >= MAX_ASSEMBLIES) assemblies.shift();
      const { source, destination, protocol, identification } = p;
      a = { vlan, source, destination, protocol, identification, pieces: [], length: -1, due: now + ASSEMBLY_TIMEOUT };
      assemblies.push(a);
    }
    const drop = (): undefined => {
      assemblies.splice(assemblies.indexOf(a), 1);
    };
    const end = p.offset + p.payload.length;
    const { length } = a;
    // RFC 5722 has overlaps dropped with all they belong to; so is what contradicts itself.
    const overlaps = a.pieces.some((x) => p.offset < x.offset + x.data.length && x.offset < end);
    const wrong = end > MAX_DATAGRAM || (p.more && p.payload.length % 8 !== 0) || p.payload.length === 0;
    if (overlaps || wrong || (length >= 0 && (end > length || !p.more))) return drop();
    if (!p.more) a.length = end;
    a.pieces.push({ offset: p.offset, data: p.payload.slice() });
    const have = a.pieces.reduce((n, x) => n + x.data.length, 0);
    if (a.length < 0 || have < a.length) return undefined;
    const payload = new Uint8Array(a.length);
    for (const x of a.pieces) {
      if (x.offset + x.data.length > a.length) return drop();
      payload.set(x.data, x.offset);
    }
    drop();
    return { ...p, offset: 0, more: false, payload };
  }

  #icmp(vlan: number, p: Ipv4, head: Uint8Array): void {
    const i = parseIcmp(p.payload);
    if (i?.type !== ICMP.echo) return;
    const ends = { vlan, local: p.destination, localPort: 0, remote: p.source, remotePort: 0 };
    if (this.#own(vlan, p.destination)) this.#sendIp(ends, PROTOCOL.icmp, makeIcmp({ ...i, type: ICMP.echoReply }));
    else this.#unreachable(vlan, p, this.#user ? UNREACHABLE.prohibited : UNREACHABLE.net, head);
  }

  /** `head`: the header of what cannot be delivered, and 8 bytes more. */
  #unreachable(vlan: number, p: Ipv4, code: number, head: Uint8Array): void {
    const ends = { vlan, local: networkOf(vlan) + GATEWAY, localPort: 0, remote: p.source, remotePort: 0 };
    this.#sendIp(ends, PROTOCOL.icmp, makeIcmp({ type: ICMP.unreachable, code, rest: 0, payload: head }));
  }

  get #user(): boolean {
    return this.state.settings.mode === 'user';
  }

  /** The gateway's address stands for the computer that this machine is on. */
  #outsideAddress(vlan: number, local: number): string {
    return local === networkOf(vlan) + GATEWAY ? '127.0.0.1' : ipText(local);
  }

  /** Whether there is a way out to this address. */
  #leadsOutside(vlan: number, address: number): boolean {
    const here = (address & MASK) >>> 0 === networkOf(vlan);
    return this.#user && (!here || address === networkOf(vlan) + GATEWAY);
  }

  #tcpSegment(vlan: number, p: Ipv4, head: Uint8Array): boolean {
    const t = parseTcp(p);
    if (!t) return false;
    const ends = { vlan, local: p.destination, localPort: t.destinationPort, remote: p.source, remotePort: t.sourcePort };
    const own = this.#own(vlan, p.destination);
    if (this.#leadsOutside(vlan, p.destination)) this.#tcp.input(ends, t, OUTSIDE);
    else if (own) this.#tcp.input(ends, t, this.#user ? undefined : SERVICES[t.destinationPort]);
    else this.#unreachable(vlan, p, UNREACHABLE.net, head);
    return true;
  }

  // --- UDP --------------------------------------------------------------------------------------------------------------------

  #udp(vlan: number, p: Ipv4, head: Uint8Array): boolean {
    const u = parseUdp(p);
    if (!u) return false;
    const ends = { vlan, local: p.destination, localPort: u.destinationPort, remote: p.source, remotePort: u.sourcePort };
    const own = this.#own(vlan, p.destination);
    const service = own && !this.#user ? UDP_SERVICES[u.destinationPort] : undefined;
    if (own && u.destinationPort === DNS_PORT) this.#dns(ends, u);
    else if (service) {
      const answer = service(u.payload);
      if (answer) this.#sendUdp(ends, answer);
    } else if (this.#leadsOutside(vlan, p.destination)) this.#flow(ends, u);
    else this.#unreachable(vlan, p, own ? UNREACHABLE.port : UNREACHABLE.net, head);
    return true;
  }

  #sendUdp(ends: TcpEnds, payload: Uint8Array): void {
    const { local, localPort, remote, remotePort } = ends;
    this.#sendIp(ends, PROTOCOL.udp, makeUdp(local, remote, { sourcePort: localPort, destinationPort: remotePort, payload }));
  }

  #flow(ends: TcpEnds, { payload }: Udp): void {
    const { flows } = this.state;
    const { now } = this.#host.clock;
    const over = flows.filter((f) => now - f.heard > FLOW_TIMEOUT);
    let flow = flows.find(
      (f) =>
        f.remotePort === ends.remotePort &&
        f.localPort === ends.localPort &&
        f.remote === ends.remote &&
        f.local === ends.local &&
        f.vlan === ends.vlan,
    );
    if (!flow && flows.length - over.length >= MAX_FLOWS) over.push([...flows].sort((a, b) => a.heard - b.heard)[0]);
    for (const f of over)
      if (f !== flow) {
        flows.splice(flows.indexOf(f), 1);
        this.#host.ask({ kind: 'forget', id: f.id });
      }
    if (!flow) {
      flow = { ...ends, id: this.state.nextId++, heard: now };
      flows.push(flow);
    }
    flow.heard = now;
    const address = this.#outsideAddress(ends.vlan, ends.local);
    this.#host.ask({ kind: 'datagram', id: flow.id, address, port: ends.localPort, data: payload.slice() });
  }

  /** True: it was for the DHCP server. */
  #dhcp(vlan: number, p: Ipv4): boolean {
    const u = p.offset === 0 && !p.more ? parseUdp(p) : undefined;
    if (u?.destinationPort !== DHCP_PORT.server || u.sourcePort !== DHCP_PORT.client) return false;
    const network = networkOf(vlan);
    const router = network + GATEWAY;
    const reply = dhcpReply(u.payload, {
      mask: MASK,
      router,
      dns: network + DNS,
      server: router,
      lease: (client) => this.#lease(vlan, client),
    });
    if (!reply) return true;
    const remote = reply.address ?? ALL_ONES;
    const ends = { vlan, local: router, localPort: DHCP_PORT.server, remote, remotePort: DHCP_PORT.client };
    if (reply.address !== undefined) this.#learn(vlan, reply.address, reply.client);
    this.#sendUdp(ends, reply.message);
    return true;
  }

  #lease(vlan: number, client: number): number | undefined {
    const { leases } = this.state;
    const key = `${vlan}/${macText(client)}`;
    if (key in leases) return networkOf(vlan) + leases[key];
    const used = Object.entries(leases).flatMap(([k, n]) => (k.startsWith(`${vlan}/`) ? [n] : []));
    for (let n = FIRST_LEASE; n <= LAST_LEASE; n++)
      if (!used.includes(n)) {
        leases[key] = n;
        return networkOf(vlan) + n;
      }
    return undefined;
  }

  // --- DNS --------------------------------------------------------------------------------------------------------------------

  #dns(ends: TcpEnds, { payload }: Udp): void {
    const question = parseDns(payload);
    if (question === undefined) return;
    if (typeof question === 'number') {
      this.#sendUdp(ends, dnsAnswer(payload, question));
      return;
    }
    const { names } = this.state.settings;
    const { name, type, bytes } = question;
    const known = name === 'gateway' ? networkOf(ends.vlan) + GATEWAY : Object.hasOwn(names, name) ? names[name] : undefined;
    const asksAddress = type === RECORD.a || type === RECORD.any;
    if (known !== undefined) this.#sendUdp(ends, dnsAnswer(bytes, DNS_STATUS.ok, asksAddress ? [known] : []));
    else if (!this.#user) this.#sendUdp(ends, dnsAnswer(bytes, DNS_STATUS.noSuchName));
    // Other records are not asked for outside. That they are not there says nothing about the name.
    else if (!asksAddress) this.#sendUdp(ends, dnsAnswer(bytes, DNS_STATUS.ok));
    else {
      const { questions } = this.state;
      if (questions.length >= MAX_QUESTIONS) questions.shift();
      const id = this.state.nextId++;
      questions.push({ ...ends, id, name, bytes });
      this.#host.ask({ kind: 'resolve', id, name });
    }
  }

  // --- the outside ------------------------------------------------------------------------------------------------------------

  #outsideEvent(event: NetworkEvent): void {
    const { flows, questions } = this.state;
    switch (event.kind) {
      case 'datagram': {
        const flow = flows.find((f) => f.id === event.id);
        if (flow && event.data.length <= MAX_DATAGRAM - IPV4_HEADER - 8) this.#sendUdp(flow, event.data);
        return;
      }
      case 'resolved': {
        const at = questions.findIndex((q) => q.id === event.id);
        if (at < 0) return;
        const [q] = questions.splice(at, 1);
        const { ok, noSuchName, failure, refused } = DNS_STATUS;
        const status = { ok, 'no-such-name': noSuchName, failed: failure, refused }[event.status];
        const addresses = event.addresses.flatMap((a) => parseIp(a) ?? []);
        this.#sendUdp(q, dnsAnswer(q.bytes, status, addresses.slice(0, 16)));
        return;
      }
      case 'restarted':
        this.#tcp.abort(OUTSIDE);
        flows.length = 0;
        questions.length = 0;
        return;
      default: {
        const c = this.#tcp.connection(event.id);
        if (c?.application !== OUTSIDE) return;
        relay(this.#tcp, c, event, (request) => this.#host.ask(request));
      }
    }
  }

  // --- sending ----------------------------------------------------------------------------------------------------------------

  /** A datagram from `local` to `remote`, in as many fragments as the link wants. */
  #sendIp({ vlan, local: source, remote: destination }: TcpEnds, protocol: number, payload: Uint8Array): void {
    const mac = destination === ALL_ONES ? BROADCAST : this.state.neighbours[`${vlan}/${ipText(destination)}`];
    if (mac === undefined || payload.length > MAX_DATAGRAM - IPV4_HEADER) {
      this.state.dropped++;
      return;
    }
    const { identification } = this.state;
    this.state.identification = (identification + 1) & 0xffff;
    const most = (this.#host.mtu() - IPV4_HEADER) & ~7;
    const fits = payload.length <= this.#host.mtu() - IPV4_HEADER;
    for (let offset = 0; offset === 0 || offset < payload.length; offset += most) {
      const more = !fits && offset + most < payload.length;
      const piece = fits ? payload : payload.subarray(offset, offset + most);
      const ip = makeIpv4({ source, destination, protocol, identification, offset, more, payload: piece });
      this.#send(vlan, mac, ETHERTYPE.ipv4, ip);
      if (fits) return;
    }
  }

  #send(vlan: number, destination: number, type: number, payload: Uint8Array): void {
    const tag = vlan === 0 ? undefined : vlan;
    this.#out.push(freeze(makeEthernet({ destination, source: GATEWAY_MAC, tag, type, payload })));
  }
}
