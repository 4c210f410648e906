/**
 * Where a guest's network may go: a list of patterns `[tcp:|udp:]HOST:PORT`. HOST is an IPv4 address, a network (10.1.0.0/16), a
 * name (also `*.example.org`), or `localhost`; PORT a number, a range (8000-8099) or `*`. What no pattern names is refused.
 */
import { ConfigError } from '../../config.ts';
import { parseIp } from '../../network/packet.ts';

export type Protocol = 'tcp' | 'udp';

interface Pattern {
  protocol: Protocol | undefined;
  /** Network and mask, or a name in lower case; a name that begins with a dot is any name below it. */
  host: { network: number; mask: number } | { name: string };
  first: number;
  last: number;
}

const LOOPBACK = 0x7f00_0001;

function parsePattern(text: string): Pattern {
  const wrong = (why: string): ConfigError =>
    new ConfigError(`network: "allow": "${text}": ${why}; expected HOST:PORT, such as "example.org:443" or "10.0.0.0/8:*"`);
  const m = /^(?:(tcp|udp):)?([^:]+):([^:]+)$/i.exec(text);
  if (!m) throw wrong('it has no host and port');
  const [, protocol, host, port] = m;
  const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(port);
  if (!range && port !== '*') throw wrong(`"${port}" is no port`);
  const first = range ? Number(range[1]) : 1;
  const last = range ? Number(range[2] ?? range[1]) : 65_535;
  if (first < 1 || last > 65_535 || first > last) throw wrong(`"${port}" is no port`);
  const [address, bits, ...more] = host.split('/');
  const ip = parseIp(address);
  const common = { protocol: protocol?.toLowerCase() as Protocol | undefined, first, last };
  if (ip !== undefined) {
    const length = bits === undefined ? 32 : /^\d{1,2}$/.test(bits) ? Number(bits) : 99;
    if (length > 32 || more.length > 0) throw wrong(`"${host}" is no network`);
    const mask = length === 0 ? 0 : (0xffff_ffff << (32 - length)) >>> 0;
    return { ...common, host: { network: (ip & mask) >>> 0, mask } };
  }
  if (host.toLowerCase() === 'localhost') return { ...common, host: { network: LOOPBACK, mask: 0xffff_ffff } };
  const name = host.toLowerCase().replace(/^\*(?=\.)/, '');
  if (!/^\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name) || /^[\d.]+$/.test(name)) throw wrong(`"${host}" is no host`);
  return { ...common, host: { name } };
}

/** Addresses that no name may lead to: this computer itself, no address at all, and those of one link or of groups. */
function neverByName(ip: number): boolean {
  const top = ip >>> 24;
  return top === 0 || top === 127 || top >= 224 || ip >>> 16 === 0xa9fe;
}

/** Addresses that are remembered as those of names. */
const MAX_KNOWN = 16_384;

export class Allowed {
  readonly #patterns: readonly Pattern[];
  /** Addresses that allowed names have led to, with the patterns of those names. */
  readonly #known = new Map<number, Set<Pattern>>();

  /** Throws `ConfigError`: one line with the pattern that is none. */
  constructor(patterns: readonly string[]) {
    this.#patterns = patterns.map(parsePattern);
  }

  #ofName(name: string): Pattern[] {
    const wanted = name.toLowerCase().replace(/\.$/, '');
    return this.#patterns.filter(
      ({ host }) => 'name' in host && (host.name.startsWith('.') ? wanted.endsWith(host.name) : wanted === host.name),
    );
  }

  /** Whether a name may be looked up. */
  name(name: string): boolean {
    return this.#ofName(name).length > 0;
  }

  /** Takes notice of what a name has led to; the addresses that it may lead to. */
  resolved(name: string, addresses: readonly string[]): string[] {
    const patterns = this.#ofName(name);
    return addresses.filter((address) => {
      const ip = parseIp(address);
      if (ip === undefined || neverByName(ip)) return false;
      const known = this.#known.get(ip) ?? new Set();
      for (const p of patterns) known.add(p);
      // The newest last: a guest that asks for ever more names loses the oldest.
      this.#known.delete(ip);
      this.#known.set(ip, known);
      const [oldest] = this.#known.keys();
      if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
      return true;
    });
  }

  /** Whether a guest may go there. */
  allows(protocol: Protocol, address: string, port: number): boolean {
    const ip = parseIp(address);
    if (ip === undefined) return false;
    const fits = (p: Pattern): boolean =>
      (p.protocol === undefined || p.protocol === protocol) && port >= p.first && port <= p.last;
    const byAddress = ({ host }: Pattern): boolean => 'mask' in host && (ip & host.mask) >>> 0 === host.network;
    return this.#patterns.some((p) => byAddress(p) && fits(p)) || [...(this.#known.get(ip) ?? [])].some(fits);
  }
}
