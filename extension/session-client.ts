import * as vscode from 'vscode';
import type { CustomEvents, CustomRequests } from '../debug-adapter/protocol.ts';

export const TYPE = 'hyperstep';

/** Typed access to one debug session's custom requests. */
export class SessionClient {
  readonly session: vscode.DebugSession;

  constructor(session: vscode.DebugSession) {
    this.session = session;
  }

  async request<K extends keyof CustomRequests>(name: K, args: CustomRequests[K][0]): Promise<CustomRequests[K][1]> {
    return (await this.session.customRequest(name, args)) as CustomRequests[K][1];
  }
}

/** What happened to which session. */
export type SessionChange = 'started' | 'stopped' | 'continued' | 'ended' | 'activated';

/**
 * Follows our debug sessions: which one the views show, when it stops and goes on, and its custom events. One instance for
 * the whole extension; everything else listens here instead of to VS Code's debug API.
 */
export class Sessions implements vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<{ change: SessionChange; client: SessionClient }>();
  readonly #custom = new vscode.EventEmitter<{ client: SessionClient; event: string; body: unknown }>();
  readonly #clients = new Map<string, SessionClient>();
  readonly #stopped = new Set<string>();
  readonly #disposables: vscode.Disposable[];

  readonly onChange = this.#changed.event;

  constructor() {
    this.#disposables = [
      this.#changed,
      this.#custom,
      vscode.debug.onDidStartDebugSession((s) => {
        if (s.type === TYPE) this.#changed.fire({ change: 'started', client: this.#client(s) });
      }),
      vscode.debug.onDidTerminateDebugSession((s) => {
        const client = this.#clients.get(s.id);
        if (!client) return;
        this.#clients.delete(s.id);
        this.#stopped.delete(s.id);
        this.#changed.fire({ change: 'ended', client });
      }),
      vscode.debug.onDidChangeActiveDebugSession((s) => {
        if (s?.type === TYPE) this.#changed.fire({ change: 'activated', client: this.#client(s) });
      }),
      vscode.debug.onDidReceiveDebugSessionCustomEvent((e) => {
        if (e.session.type === TYPE) this.#custom.fire({ client: this.#client(e.session), event: e.event, body: e.body });
      }),
      vscode.debug.registerDebugAdapterTrackerFactory(TYPE, {
        createDebugAdapterTracker: (session) => ({
          onDidSendMessage: (message: { type: string; event?: string }) => {
            if (message.type !== 'event') return;
            if (message.event === 'stopped') this.#move(session, 'stopped');
            else if (message.event === 'continued') this.#move(session, 'continued');
          },
          onWillReceiveMessage: (message: { type: string; command?: string }) => {
            if (
              message.type === 'request' &&
              /^(continue|next|stepIn|stepOut|reverseContinue|stepBack)$/.test(message.command ?? '')
            )
              this.#move(session, 'continued');
          },
        }),
      }),
    ];
  }

  #client(session: vscode.DebugSession): SessionClient {
    let client = this.#clients.get(session.id);
    if (!client) {
      client = new SessionClient(session);
      this.#clients.set(session.id, client);
    }
    return client;
  }

  #move(session: vscode.DebugSession, change: 'stopped' | 'continued'): void {
    if (change === 'stopped') this.#stopped.add(session.id);
    else this.#stopped.delete(session.id);
    this.#changed.fire({ change, client: this.#client(session) });
  }

  /** The session that views show: the active one if it is ours, else any of ours. */
  get current(): SessionClient | undefined {
    const active = vscode.debug.activeDebugSession;
    if (active?.type === TYPE) return this.#client(active);
    return this.#clients.values().next().value;
  }

  /** All sessions of ours. */
  get all(): SessionClient[] {
    return [...this.#clients.values()];
  }

  isStopped(client: SessionClient): boolean {
    return this.#stopped.has(client.session.id);
  }

  onCustom<K extends keyof CustomEvents>(
    name: K,
    listener: (client: SessionClient, body: CustomEvents[K]) => void,
  ): vscode.Disposable {
    return this.#custom.event((e) => {
      if (e.event === name) listener(e.client, e.body as CustomEvents[K]);
    });
  }

  dispose(): void {
    for (const d of this.#disposables) d.dispose();
  }
}
