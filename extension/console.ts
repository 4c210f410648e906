import * as vscode from 'vscode';
import type { SessionClient, Sessions } from './session-client.ts';

/** The guest's serial console of one session, as a terminal with input. */
class SerialConsole implements vscode.Pseudoterminal {
  readonly #write = new vscode.EventEmitter<string>();
  readonly onDidWrite = this.#write.event;
  readonly #client: SessionClient;
  readonly #decoder = new TextDecoder();
  /** Output that came before the terminal was open. */
  #early: string[] | undefined = [];
  #ended = false;

  constructor(client: SessionClient) {
    this.#client = client;
  }

  open(): void {
    for (const text of this.#early ?? []) this.#write.fire(text);
    this.#early = undefined;
  }
  close(): void {}

  output(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (this.#early) this.#early.push(text);
    else this.#write.fire(text);
  }
  end(): void {
    this.#ended = true;
    this.output(new TextEncoder().encode('\r\n[The guest has ended.]\r\n'));
  }

  handleInput(data: string): void {
    if (this.#ended) return;
    void this.#client.request('hyperstep/consoleInput', { data }).then(undefined, () => {
      // The session ended between the key and the request: its own messages say so.
    });
  }
}

/** One terminal per session, shown when the session starts. */
export function registerConsole(sessions: Sessions): vscode.Disposable {
  const consoles = new Map<string, { pty: SerialConsole; terminal: vscode.Terminal }>();
  /** Terminals of sessions that are over, still there to be read. */
  const ended = new Set<vscode.Terminal>();
  const of = (client: SessionClient) => {
    let c = consoles.get(client.session.id);
    if (!c) {
      const pty = new SerialConsole(client);
      const terminal = vscode.window.createTerminal({
        name: `Serial: ${client.session.name}`,
        pty,
        iconPath: new vscode.ThemeIcon('terminal'),
      });
      c = { pty, terminal };
      consoles.set(client.session.id, c);
      // The same configuration again, as after a restart: what its last run wrote makes room.
      for (const old of ended) if (old.name === terminal.name) old.dispose();
      terminal.show(true);
    }
    return c;
  };
  return vscode.Disposable.from(
    vscode.window.onDidCloseTerminal((terminal) => ended.delete(terminal)),
    sessions.onCustom('hyperstep/console', (client, body) => of(client).pty.output(Buffer.from(body.data, 'base64'))),
    sessions.onChange(({ change, client }) => {
      if (change === 'started') of(client);
      if (change !== 'ended') return;
      const c = consoles.get(client.session.id);
      if (!c) return;
      c.pty.end();
      ended.add(c.terminal);
      consoles.delete(client.session.id);
    }),
  );
}
