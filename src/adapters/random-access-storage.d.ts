/**
 * The npm package random-access-storage, which brings no types: what src/adapters/random-access.ts uses of it.
 */
declare module "random-access-storage" {
  /** One operation under way. */
  interface StorageRequest {
    readonly offset: number;
    readonly size: number;
    readonly data: Uint8Array | null;
    callback(error: Error | null, value?: unknown): void;
  }

  type Hook = (request: StorageRequest) => void;

  interface Hooks {
    open?: Hook;
    read?: Hook;
    write?: Hook;
    del?: Hook;
    truncate?: Hook;
    stat?: Hook;
    suspend?: Hook;
    close?: Hook;
    unlink?: Hook;
  }

  export default class RandomAccessStorage {
    constructor(hooks: Hooks);
    readonly readable: boolean;
    readonly writable: boolean;
    readonly deletable: boolean;
    readonly truncatable: boolean;
    readonly statable: boolean;
    readonly opened: boolean;
    readonly closed: boolean;
    read(offset: number, size: number, callback: (error: Error | null, data?: Uint8Array) => void): void;
    write(offset: number, data: Uint8Array, callback?: (error: Error | null) => void): void;
    del(offset: number, size: number, callback?: (error: Error | null) => void): void;
    truncate(offset: number, callback?: (error: Error | null) => void): void;
    stat(callback: (error: Error | null, stat?: { size: number }) => void): void;
    open(callback?: (error: Error | null) => void): void;
    suspend(callback?: (error: Error | null) => void): void;
    close(callback?: (error: Error | null) => void): void;
    unlink(callback?: (error: Error | null) => void): void;
    on(event: "open" | "close" | "suspend" | "unsuspend" | "unlink", listener: () => void): this;
  }
}
