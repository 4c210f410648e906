/** What a request handler returns for a body that comes later: other requests are answered meanwhile. */
export class Later {
  readonly body: Promise<unknown>;
  constructor(body: Promise<unknown>) {
    this.body = body;
  }
}
