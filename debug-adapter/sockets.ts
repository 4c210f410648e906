/** The guest's Hyper-V sockets as launch.json and the command line have them: a folder of Unix sockets, or an echo. */
import { UnixSockets } from '../emulator/host/network/index.ts';
import { ConfigError, type Machine, type SocketsConfig } from '../emulator/index.ts';
import type { SocketsSetting } from './protocol.ts';

export class GuestSockets {
  readonly #setting: SocketsSetting | undefined;
  #outside: UnixSockets | undefined;

  /** Checks what the setting names. Throws `ConfigError`: one line with the folder or port and what is wrong with it. */
  constructor(setting: SocketsSetting | undefined) {
    this.#setting = setting;
    const { mode, folder, guestPorts = [] } = setting ?? {};
    if (mode === 'internal' && (folder !== undefined || guestPorts.length > 0))
      throw new ConfigError('sockets: "folder" and "guestPorts" are for mode "folder"; internal ones lead nowhere');
    if (mode !== 'folder') return;
    if (folder === undefined) throw new ConfigError('sockets: mode "folder" needs a "folder"');
    const problem = UnixSockets.problem(folder, guestPorts);
    if (problem) throw new ConfigError(`sockets: ${problem}`);
  }

  /** For the machine's configuration. */
  get config(): SocketsConfig | undefined {
    return this.#setting && { mode: this.#setting.mode === 'folder' ? 'outside' : 'internal' };
  }

  /** Answers take time that the guest must not skip while it waits for them. */
  get leadsOutside(): boolean {
    return this.#setting?.mode === 'folder';
  }

  /** Connects a machine, in place of one that was before. `note`: for the user; `wake`: something has come in for the guest. */
  connect(machine: Machine, note: (message: string) => void, wake: () => void): void {
    this.close();
    const { mode, folder, guestPorts = [] } = this.#setting ?? {};
    if (mode !== 'folder' || folder === undefined) return;
    const outside = new UnixSockets(
      folder,
      guestPorts,
      (event) => {
        machine.socketInput(event);
        wake();
      },
      (message) => note(`sockets: ${message}`),
    );
    this.#outside = outside;
    machine.onSocket = (request) => outside.request(request);
  }

  close(): void {
    this.#outside?.close();
    this.#outside = undefined;
  }
}
