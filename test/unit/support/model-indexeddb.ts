// IndexedDB as far as the driver uses it, in memory, with connections that can be lost in the ways of real browsers.

class Events {
  readonly #listeners = new Map<string, (() => void)[]>();

  addEventListener(type: string, listener: () => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  fire(type: string): void {
    for (const listener of this.#listeners.get(type) ?? []) listener();
  }
}

class ModelRequest extends Events {
  result: unknown;
  error: DOMException | null = null;
  transaction: { abort(): void } | undefined;

  succeed(result: unknown): void {
    this.result = result;
    this.fire("success");
  }

  fail(error: DOMException | null): void {
    this.error = error;
    this.fire("error");
  }
}

type Values = Map<number, Uint8Array>;
interface Range {
  first: number;
  end: number;
}

/** What Safari says when the process behind its databases is gone. */
export const lostConnection = (): DOMException =>
  new DOMException(
    "Connection to Indexed Database server lost. Refresh the page to try again",
    "UnknownError",
  );

class ModelTransaction extends Events {
  error: DOMException | null = null;
  readonly #connection: ModelConnection;
  readonly #queue: { request: ModelRequest; answer: () => unknown }[] = [];
  readonly #changes: [number, Uint8Array | undefined][] = [];
  readonly #durable: boolean;

  constructor(connection: ModelConnection, durable: boolean) {
    super();
    this.#connection = connection;
    this.#durable = durable;
    setTimeout(() => this.#run());
  }

  objectStore(): object {
    const { values } = this.#connection;
    const ask = (answer: () => unknown): ModelRequest => {
      const request = new ModelRequest();
      this.#queue.push({ request, answer });
      return request;
    };
    const keys = (range?: Range): number[] =>
      [...values.keys()]
        .filter((key) => !range || (key >= range.first && key < range.end))
        .toSorted((a, b) => a - b);
    return {
      put: (value: Uint8Array, key: number) => {
        const copy = value.slice();
        return ask(() => void this.#changes.push([key, copy]));
      },
      delete: (key: number) => ask(() => void this.#changes.push([key, undefined])),
      getAll: (range?: Range) => ask(() => keys(range).map((key) => values.get(key)?.slice())),
      getAllKeys: (range?: Range) => ask(() => keys(range)),
    };
  }

  commit(): void {}

  #run(): void {
    if (this.#connection.aborting) return this.#abort();
    for (const { request, answer } of this.#queue) request.succeed(answer());
    setTimeout(() => this.#end());
  }

  #abort(): void {
    this.error = this.#connection.abortsWith;
    for (const { request } of this.#queue) request.fail(this.error);
    this.fire("abort");
  }

  #end(): void {
    if (this.#durable && this.#connection.failDurable-- > 0) {
      this.error = new DOMException("fsync", "DataError");
      this.fire("abort");
      return;
    }
    this.#connection.failDurable = 0;
    if (this.#connection.aborting) return this.#abort();
    const { values } = this.#connection;
    for (const [key, value] of this.#changes) {
      if (value) values.set(key, value);
      else values.delete(key);
    }
    this.fire("complete");
  }
}

/** An open connection; its flags are for tests. */
export class ModelConnection extends Events {
  readonly values: Values;
  /** Closed, by whomever. */
  closed = false;
  /** What transaction() throws. */
  throws: DOMException | undefined;
  /** Every transaction aborts … */
  aborting = false;
  /** … with this. */
  abortsWith: DOMException | null = lostConnection();
  /** Durable transactions that fail from now on. */
  failDurable = 0;
  readonly objectStoreNames = { contains: (): boolean => true };

  constructor(values: Values) {
    super();
    this.values = values;
  }

  createObjectStore(): void {}

  close(): void {
    this.closed = true;
  }

  transaction(_store: string, _mode: string, options: IDBTransactionOptions): ModelTransaction {
    if (this.throws) throw this.throws;
    if (this.closed) throw new DOMException("The database connection is closing.", "InvalidStateError");
    return new ModelTransaction(this, options.durability === "strict");
  }

  /** The browser closes it by itself. */
  end(): void {
    this.closed = true;
    this.fire("close");
  }
}

/** All databases of an origin. */
export class ModelIndexedDb {
  readonly connections: ModelConnection[] = [];
  readonly #databases = new Map<string, Values>();

  /** The newest connection. */
  get connection(): ModelConnection {
    return this.connections.at(-1)!;
  }

  open(name: string): ModelRequest {
    const request = new ModelRequest();
    setTimeout(() => {
      const fresh = !this.#databases.has(name);
      if (fresh) this.#databases.set(name, new Map());
      const connection = new ModelConnection(this.#databases.get(name)!);
      request.result = connection;
      let refused = false;
      if (fresh) {
        request.transaction = {
          abort: () => {
            refused = true;
            this.#databases.delete(name);
          },
        };
        request.fire("upgradeneeded");
      }
      if (refused) return request.fail(new DOMException("aborted", "AbortError"));
      this.connections.push(connection);
      request.succeed(connection);
    });
    return request;
  }

  deleteDatabase(name: string): ModelRequest {
    const request = new ModelRequest();
    setTimeout(() => {
      this.#databases.delete(name);
      request.succeed(undefined);
    });
    return request;
  }

  /** The user clears the site's data: connections end, databases are gone. */
  clear(): void {
    this.#databases.clear();
    for (const connection of this.connections) if (!connection.closed) connection.end();
  }

  /** What the platform has as globals. */
  get globals(): Record<string, unknown> {
    const locks = {
      request: (_name: string, _options: object, body: () => Promise<unknown>): Promise<unknown> => body(),
    };
    return {
      indexedDB: this,
      IDBKeyRange: { bound: (first: number, end: number): Range => ({ first, end }) },
      navigator: { locks, storage: {} },
    };
  }
}
