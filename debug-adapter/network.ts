/** The guest's network as launch.json and the command line have it: what it may reach, and a capture file. */
import fs from 'node:fs';
import { Allowed, UserNetwork } from '../emulator/host/network/index.ts';
import { ConfigError, type Machine, type NetworkConfig, pcapngFrame, pcapngHeader } from '../emulator/index.ts';
import type { NetworkSetting } from './protocol.ts';

/** Bytes of frames that are written to the capture file together. */
const FLUSH = 1 << 16;
const REPORTED = 64;

export class GuestNetwork {
  readonly #setting: NetworkSetting | undefined;
  readonly #allowed: Allowed;
  #capture: number | undefined;
  #blocks: Uint8Array[] = [];
  #size = 0;
  #outside: UserNetwork | undefined;
  #unsubscribe: () => void = () => {};
  #wake: (() => void) | undefined;

  /** Opens what the setting names. Throws `ConfigError`: one line with the file or pattern and what is wrong with it. */
  constructor(setting: NetworkSetting | undefined) {
    this.#setting = setting;
    this.#allowed = new Allowed(setting?.allow ?? []);
    const { mode, allow = [], capture } = setting ?? {};
    if (mode === 'internal' && allow.length > 0)
      throw new ConfigError('network: "allow" is for mode "user"; the internal network leads nowhere');
    if (capture === undefined) return;
    try {
      this.#capture = fs.openSync(capture, 'w');
      fs.writeSync(this.#capture, pcapngHeader('eth0', `the guest's synthetic network card, ${mode} network`));
    } catch (error) {
      throw new ConfigError(`network: "capture": ${capture}: cannot be written: ${(error as Error).message}`);
    }
  }

  /** For the machine's configuration. */
  get config(): NetworkConfig | undefined {
    if (!this.#setting) return undefined;
    const { mode, mac, vlans, names } = this.#setting;
    return { mode, ...(mac === undefined ? {} : { mac }), ...(vlans ? { vlans } : {}), ...(names ? { names } : {}) };
  }

  /** Answers take time that the guest must not skip while it waits for them. */
  get leadsOutside(): boolean {
    return this.#setting?.mode === 'user';
  }

  /**
   * Connects a machine, in place of one that was before. `startTime`: its wall-clock time at power-on, ms since 1970; `note`: for
   * the user; `wake`: something has come in for the guest.
   */
  connect(machine: Machine, startTime: number, note: (message: string) => void, wake: () => void = () => {}): void {
    this.#disconnect();
    if (!this.#setting) return;
    if (this.#capture !== undefined)
      this.#unsubscribe = machine.subscribe(
        (event) => {
          if (event.kind !== 'frame') return;
          const time = BigInt(startTime) * 1_000_000n + BigInt(Math.floor(machine.now));
          this.#write(pcapngFrame(event.frame, time, event.direction === 'guest-to-host'));
        },
        ['frame'],
      );
    if (!this.leadsOutside) return;
    const reported = new Set<string>();
    const outside = new UserNetwork(
      this.#allowed,
      (event) => {
        machine.networkInput(event);
        wake();
        this.#wake?.();
      },
      (message) => {
        if (reported.has(message) || reported.size >= REPORTED) return;
        reported.add(message);
        note(`network: ${message}`);
      },
    );
    this.#outside = outside;
    machine.onNetwork = (request) => outside.request(request);
  }

  /** Waits until something comes in, `ms` at most. */
  rest(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Something has come in by another way. */
  stir(): void {
    this.#wake?.();
  }

  /** Lets go of everything; the capture is complete then. */
  close(): void {
    this.#disconnect();
    if (this.#capture === undefined) return;
    this.#flush();
    fs.closeSync(this.#capture);
    this.#capture = undefined;
  }

  #disconnect(): void {
    this.#unsubscribe();
    this.#unsubscribe = () => {};
    this.#outside?.close();
    this.#outside = undefined;
  }

  #write(block: Uint8Array): void {
    this.#blocks.push(block);
    this.#size += block.length;
    if (this.#size >= FLUSH) this.#flush();
  }

  /** Writes what has come together, so that a reader sees it. */
  #flush(): void {
    if (this.#capture !== undefined && this.#size > 0) fs.writeSync(this.#capture, Buffer.concat(this.#blocks));
    this.#blocks = [];
    this.#size = 0;
  }
}
