/** The schema of a workload file; see schema.ts for what reads it and docs/BENCHMARKING.md for what the members mean. */
import { deviceSchema } from "../device/schema.ts";
import { jobSchema } from "./job-schema.ts";
import type { Schema } from "./schema.ts";

const percent: Schema = { type: "number", minimum: 0, maximum: 100 };
const weight: Schema = { type: "number", minimum: 0 };
const size: Schema = { $ref: "#/$defs/size" };
const time: Schema = { $ref: "#/$defs/time" };
const count: Schema = { type: "integer", minimum: 1 };

const sizes: Schema = {
  description: "one size, a range, or sizes by weight",
  anyOf: [
    size,
    { type: "object", required: ["min", "max"], properties: { min: size, max: size, step: size } },
    {
      type: "array",
      minItems: 1,
      items: { type: "object", required: ["size"], properties: { size, weight } },
    },
  ],
};

const locality: Schema = {
  description: "sequential, random (any block any time), once (each block once), or a skew",
  anyOf: [
    { type: "string", enum: ["sequential", "backwards", "random", "once"] },
    { type: "object", required: ["zipf"], properties: { zipf: { type: "number", exclusiveMinimum: 0 } } },
    {
      type: "object",
      required: ["pareto"],
      properties: { pareto: { type: "number", exclusiveMinimum: 0, maximum: 0.999 } },
    },
    { type: "object", required: ["normal"], properties: { normal: { type: "number", exclusiveMinimum: 0 } } },
    {
      type: "object",
      required: ["hot"],
      properties: {
        hot: {
          type: "array",
          minItems: 1,
          items: {
            type: "object",
            required: ["accesses", "of"],
            properties: { accesses: weight, of: percent },
          },
        },
      },
    },
    {
      type: "object",
      required: ["sequentialPercent"],
      properties: { sequentialPercent: percent },
    },
  ],
};

const rate: Schema = {
  description: "when requests are meant to begin; absent: as soon as there is room",
  anyOf: [
    { type: "number", exclusiveMinimum: 0 },
    { type: "object", required: ["fixed"], properties: { fixed: { type: "number", exclusiveMinimum: 0 } } },
    {
      type: "object",
      required: ["poisson"],
      properties: { poisson: { type: "number", exclusiveMinimum: 0 } },
    },
    { type: "object", required: ["bytesPerSecond"], properties: { bytesPerSecond: size } },
  ],
};

const worker: Schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    count: {
      type: "integer",
      minimum: 1,
      maximum: 4096,
      description: "so many alike, each with a stream of its own",
    },
    mix: {
      description: "operations by weight; default: reads",
      anyOf: [
        { type: "string", enum: ["read", "write", "zero", "discard", "flush"] },
        {
          type: "object",
          properties: { read: weight, write: weight, zero: weight, discard: weight, flush: weight },
        },
      ],
    },
    fua: { ...percent, description: "share of writes that are durable when they complete, percent" },
    flushEvery: { type: "integer", minimum: 0 },
    flushAtEnd: { type: "boolean" },
    sizes,
    readSizes: sizes,
    writeSizes: sizes,
    align: size,
    locality,
    region: { type: "object", properties: { offset: size, size } },
    depth: { type: "integer", minimum: 1, maximum: 4096 },
    rate,
    think: {
      anyOf: [time, { type: "object", required: ["time"], properties: { time, every: count } }],
    },
    requests: count,
    bytes: size,
    duration: time,
    passes: {
      type: "number",
      exclusiveMinimum: 0,
      description: "so many times the bytes of its part of the disk",
    },
    startDelay: time,
    warmup: time,
    data: {
      type: "object",
      properties: {
        compress: percent,
        duplicates: percent,
        zeroes: percent,
        block: size,
        pool: count,
      },
    },
    onError: { type: "string", enum: ["stop", "continue"] },
    expect: { type: "array", items: { type: "string", pattern: "^E[A-Z]+$" } },
    job: jobSchema({ size, time }),
  },
};

/** The schema. */
export const workloadSchema: Schema & { readonly $schema: string; readonly title: string } = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "Blockwright workload",
  type: "object",
  properties: {
    name: { type: "string" },
    seed: { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
    clock: { type: "string", enum: ["real", "virtual"] },
    device: {
      description: "of the virtual clock: ssd, disk, cloud, http, or a model",
      anyOf: [{ type: "string" }, { type: "object" }],
    },
    target: {
      description: "a path, a URL, memory, or the description of a node",
      anyOf: [{ type: "string" }, { type: "object" }],
    },
    size,
    direct: { type: "boolean" },
    defaults: worker,
    workers: { type: "array", minItems: 1, items: { $ref: "#/$defs/worker" } },
    phases: {
      description: "groups of workers, one after the other",
      type: "array",
      minItems: 1,
      items: {
        type: "object",
        required: ["workers"],
        properties: {
          name: { type: "string" },
          workers: { type: "array", minItems: 1, items: { $ref: "#/$defs/worker" } },
        },
      },
    },
  },
  $defs: {
    worker,
    size: {
      description: "bytes, or text such as 4k, 1.5M, 2G (powers of 1024)",
      anyOf: [
        { type: "integer", minimum: 0 },
        { type: "string", pattern: "^\\s*\\d+(\\.\\d+)?\\s*[kmgtp]?i?b?\\s*$" },
      ],
    },
    time: {
      description: "text with its unit (ns, us, ms, s, m, h), or a number of seconds",
      anyOf: [
        { type: "number", minimum: 0 },
        { type: "string", pattern: "^\\s*\\d+(\\.\\d+)?\\s*(ns|us|µs|ms|s|m|min|h|d)\\s*$" },
      ],
    },
    device: deviceSchema,
  },
};
