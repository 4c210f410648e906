/** The guest's Hyper-V sockets as launch.json and the command line have them: Unix sockets, programs, our own streams, or an echo. */
import { ProgramSockets, type StdioPort, StdioSockets, UnixSockets } from '../emulator/host/network/index.ts';
import { ConfigError, type Machine, type SocketEvent, type SocketRequest, type SocketsConfig } from '../emulator/index.ts';
import type { SocketsSetting } from './protocol.ts';

/** What the command line can have and launch.json cannot: the debug adapter's own streams are the editor's. */
export interface StdioSetting {
  mode: 'stdio';
  port: StdioPort;
}

/** What is at the other end. */
interface Outside {
  request(request: SocketRequest): void;
  close(): void;
}

const LAST_PORT = 0xffff_fffe;
/** Settings of each mode. */
const KEYS: Record<SocketsSetting['mode'], readonly (keyof SocketsSetting)[]> = {
  internal: [],
  folder: ['folder', 'guestPorts'],
  programs: ['hostPrograms', 'guestPrograms'],
};

function programsOf(programs: Record<string, string[]> = {}): Map<number, readonly string[]> {
  return new Map(
    Object.entries(programs).map(([port, command]) => {
      if (!/^\d{1,10}$/.test(port) || Number(port) > LAST_PORT)
        throw new ConfigError(`sockets: ${port} is no port: 0 to ${LAST_PORT}`);
      if (command.length === 0) throw new ConfigError(`sockets: port ${port} has no program`);
      return [Number(port), command];
    }),
  );
}

export class GuestSockets {
  readonly #setting: SocketsSetting | StdioSetting | undefined;
  #outside: Outside | undefined;

  /** Checks what the setting names. Throws `ConfigError`: one line with the folder or port and what is wrong with it. */
  constructor(setting: SocketsSetting | StdioSetting | undefined) {
    this.#setting = setting;
    if (!setting || setting.mode === 'stdio') return;
    const { mode, folder, guestPorts = [], hostPrograms, guestPrograms } = setting;
    for (const [of, keys] of Object.entries(KEYS))
      for (const key of keys)
        if (of !== mode && setting[key] !== undefined && (key !== 'guestPorts' || guestPorts.length > 0))
          throw new ConfigError(`sockets: "${key}" is for mode "${of}", not "${mode}"`);
    if (mode === 'programs' && programsOf(hostPrograms).size + programsOf(guestPrograms).size === 0)
      throw new ConfigError('sockets: mode "programs" needs "hostPrograms" or "guestPrograms"');
    if (mode !== 'folder') return;
    if (folder === undefined) throw new ConfigError('sockets: mode "folder" needs a "folder"');
    const problem = UnixSockets.problem(folder, guestPorts);
    if (problem) throw new ConfigError(`sockets: ${problem}`);
  }

  /** For the machine's configuration. */
  get config(): SocketsConfig | undefined {
    return this.#setting && { mode: this.leadsOutside ? 'outside' : 'internal' };
  }

  /** Answers take time that the guest must not skip while it waits for them. */
  get leadsOutside(): boolean {
    return this.#setting !== undefined && this.#setting.mode !== 'internal';
  }

  /** Standard input and output are the guest's. */
  get takesStdio(): boolean {
    return this.#setting?.mode === 'stdio';
  }

  /** Connects a machine, in place of one that was before. `note`: for the user; `wake`: something has come in for the guest. */
  connect(machine: Machine, note: (message: string) => void, wake: () => void): void {
    this.close();
    const deliver = (event: SocketEvent): void => {
      machine.socketInput(event);
      wake();
    };
    const outside = this.#open(deliver, (message) => note(`sockets: ${message}`));
    this.#outside = outside;
    if (outside) machine.onSocket = (request) => outside.request(request);
  }

  #open(deliver: (event: SocketEvent) => void, note: (message: string) => void): Outside | undefined {
    const setting = this.#setting;
    switch (setting?.mode) {
      case 'folder':
        return new UnixSockets(setting.folder ?? '', setting.guestPorts ?? [], deliver, note);
      case 'programs':
        return new ProgramSockets(programsOf(setting.hostPrograms), programsOf(setting.guestPrograms), deliver, note);
      case 'stdio':
        return new StdioSockets(setting.port, deliver);
      default:
        return undefined;
    }
  }

  close(): void {
    this.#outside?.close();
    this.#outside = undefined;
  }
}
