/**
 * What happened in a story, with virtual times, and a hash over all of it.
 */
import type { Scheduler } from "../workload/time/scheduler.ts";

/** The record of one story. */
export class Trace {
  readonly lines: string[] = [];
  readonly #scheduler: Scheduler;
  readonly #keepIo: boolean;
  #hash = 0x811c9dc5;
  #hash2 = 0x1b873593;

  constructor(scheduler: Scheduler, options: { keepIo: boolean }) {
    this.#scheduler = scheduler;
    this.#keepIo = options.keepIo;
  }

  /** One thing that happened. */
  add(text: string): void {
    const line = `${this.#scheduler.nowMs.toFixed(3)} ${text}`;
    this.#mix(line);
    this.lines.push(line);
  }

  /** One request to a file: always in the hash, in the lines only on request. */
  io(verb: string, path: string, offset: number, bytes: number): void {
    if (this.#keepIo) return this.add(`io ${verb} ${path} ${offset}+${bytes}`);
    this.#mix(`${this.#scheduler.nowMs.toFixed(3)} io ${verb} ${path} ${offset}+${bytes}`);
  }

  get hash(): string {
    return this.#hash.toString(16).padStart(8, "0") + this.#hash2.toString(16).padStart(8, "0");
  }

  #mix(text: string): void {
    let a = this.#hash;
    let b = this.#hash2;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      a = Math.imul(a ^ code, 0x01000193) >>> 0;
      b = Math.imul(b + code, 0x85ebca6b) >>> 0;
      b = (b ^ (b >>> 13)) >>> 0;
    }
    this.#hash = a;
    this.#hash2 = b;
  }
}
