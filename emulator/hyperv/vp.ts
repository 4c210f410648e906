/** What the hypervisor keeps for one virtual processor. Its architectural half is the CPU's. */
import type { HypervisorHost } from './host.ts';
import type { ReferenceTime } from './reference-time.ts';
import { Stimers, type StimersState, stimersReset } from './stimer.ts';
import { Synic, type SynicState, synicReset } from './synic.ts';

export interface VpState {
  synic: SynicState;
  stimers: StimersState;
  /** VP registers that only hold what was written, by name. */
  stored: Record<string, bigint>;
}

export const vpReset = (): VpState => ({ synic: synicReset(), stimers: stimersReset(), stored: {} });

export class Vp {
  readonly index: number;
  readonly state: VpState;
  readonly synic: Synic;
  readonly stimers: Stimers;

  constructor(host: HypervisorHost, index: number, time: ReferenceTime, state: VpState) {
    this.index = index;
    this.state = state;
    this.stimers = new Stimers(host, index, time, state.stimers);
    this.synic = new Synic(host, index, this.stimers, state.synic);
    this.stimers.onMessage = () => this.synic.rescan();
    this.stimers.onDirect = (intid) => this.synic.pulse(intid, 'stimer');
  }

  /** Timers stopped, SynIC off, queues empty: as at power-on. */
  resetSynic(): void {
    this.stimers.reset();
    const fresh = synicReset();
    const { state } = this.synic;
    Object.assign(state, { scontrol: fresh.scontrol, siefp: fresh.siefp, simp: fresh.simp, sirbp: fresh.sirbp });
    fresh.sint.forEach((value, sint) => {
      state.sint[sint] = value;
      state.queues[sint].length = 0;
    });
  }
}
