/**
 * Monitored notifications: instead of a hypercall the guest sets a bit in a page that the hypervisor looks at from time to time
 * (TLFS "Monitored Notifications" with HV_MONITOR_PAGE; reference hyperv-arm64.md §8.10). The guest names two pages when it
 * connects; the host fills in latencies and connections of the page that the guest writes to, and never uses the other.
 */
import type { HypervisorHost } from '../hyperv/host.ts';
import { HV_PAGE } from '../hyperv/tlfs.ts';
import { MonitorPage, MONITOR_GROUPS, MONITOR_TRIGGERS } from './protocol.ts';

/** A channel that the guest signals through its trigger. */
export interface Trigger {
  readonly connectionId: number;
  /** Virtual time from the bit to the signal, at most; ns. */
  readonly latency: number;
  readonly open: boolean;
  onSignal(how: string): void;
}

export interface MonitorState {
  /** GPA of the page that the guest writes to; 0 while there is none. */
  page: number;
}

const ALARM = 'vmbus/monitor';
/** Latencies on the page count 100 ns. */
const LATENCY_UNIT = 100;

const { field } = MonitorPage;
const groupOf = (id: number): number => Math.floor(id / MONITOR_TRIGGERS);
const pendingOf = (group: number): number => field.TriggerGroup.offset + 8 * group;

export class Monitor {
  readonly state: MonitorState = { page: 0 };
  readonly #host: HypervisorHost;
  /** By monitor id. */
  readonly triggers: readonly Trigger[];
  readonly #period: number;

  /** Monitor ids (32 times the group, plus the bit) are given out in the order of `triggers`; those beyond the last have none. */
  constructor(host: HypervisorHost, triggers: readonly Trigger[]) {
    this.#host = host;
    this.triggers = triggers.slice(0, MONITOR_GROUPS * MONITOR_TRIGGERS);
    this.#period = Math.min(...triggers.map((t) => t.latency));
    host.clock.on(ALARM, () => this.#look());
  }

  /** No channel has a trigger: there is nothing to monitor. */
  get unused(): boolean {
    return this.triggers.length === 0;
  }

  /** Monitor id of a channel; undefined when it has none, or when the guest has no pages. */
  idOf(channel: Trigger): number | undefined {
    const id = this.triggers.indexOf(channel);
    return this.state.page === 0 || id < 0 ? undefined : id;
  }

  /** The guest's pages: parent to child, child to parent. True when they can be used; any earlier ones are let go. */
  connect(parentToChild: bigint, childToParent: bigint): boolean {
    this.disconnect();
    const usable = (gpa: bigint): boolean =>
      gpa !== 0n &&
      gpa % BigInt(HV_PAGE) === 0n &&
      gpa < BigInt(this.#host.ram.size) &&
      this.#host.ram.contains(Number(gpa), HV_PAGE);
    if (!usable(parentToChild) || !usable(childToParent)) return false;
    const page = Number(childToParent);
    this.state.page = page;
    const { ram } = this.#host;
    ram.touch(page, HV_PAGE);
    let groups = 0;
    for (const [id, { latency, connectionId }] of this.triggers.entries()) {
      groups |= 1 << groupOf(id);
      ram.view.setUint16(page + field.Latency.offset + 2 * id, Math.min(latency / LATENCY_UNIT, 0xffff), true);
      const parameter = page + field.Parameter.offset + 8 * id;
      ram.view.setUint32(parameter, connectionId, true);
      ram.view.setUint32(parameter + 4, 0, true);
    }
    ram.view.setUint32(page + field.TriggerState.offset, groups, true);
    return true;
  }

  /** Guest memory is not touched afterwards. */
  disconnect(): void {
    this.state.page = 0;
    this.#host.clock.cancel(ALARM);
  }

  /** A channel was opened: there is something to look for. */
  watch(): void {
    if (this.state.page !== 0 && this.triggers.some((t) => t.open) && !this.#armed)
      this.#host.clock.set(ALARM, this.#host.clock.now + this.#period);
  }

  get #armed(): boolean {
    return this.#host.clock.state.alarms.some((a) => a.id === ALARM);
  }

  #look(): void {
    const { ram } = this.#host;
    const { page } = this.state;
    for (let group = 0; group < MONITOR_GROUPS && page !== 0; group++) {
      const at = page + pendingOf(group);
      const pending = ram.view.getUint32(at, true);
      if (pending === 0) continue;
      ram.touch(at, 4);
      ram.view.setUint32(at, 0, true);
      for (const [id, trigger] of this.triggers.entries())
        if (groupOf(id) === group && (pending >>> (id % MONITOR_TRIGGERS)) & 1 && trigger.open) trigger.onSignal('monitor page');
    }
    this.watch();
  }
}
