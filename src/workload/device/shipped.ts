/**
 * The device models that are shipped, by name: what a run is given where a device is not measured but named.
 */
import type { DeviceJson } from "./model.ts";

/** The models that are shipped. */
export const deviceModels: Readonly<Record<"ssd" | "disk" | "cloud" | "http", DeviceJson>> = {
  ssd: {
    name: "ssd",
    description: "a data-centre NVMe SSD: 80 µs a read, writes into a cache of 256 MiB",
    channels: 32,
    queueDepth: 1024,
    latency: {
      read: { median: "80us", sigma: 0.15, most: "2ms" },
      write: { median: "14us", sigma: 0.2, most: "2ms" },
      zero: "20us",
      discard: "60us",
      flush: "120us",
    },
    bytesPerSecond: { read: "3000M", write: "2000M", total: "3200M" },
    cache: { size: "256M", bytesPerSecond: "1200M", flush: "100us" },
  },
  disk: {
    name: "disk",
    description: "a disk of 7200 rotations a minute with a cache of 64 MiB",
    channels: 1,
    queueDepth: 32,
    latency: { read: "100us", write: "100us", zero: "100us", discard: "100us", flush: "1ms" },
    bytesPerSecond: { total: "180M" },
    seek: { least: "500us", most: "15ms", rotation: "8333us" },
    cache: { size: "64M", bytesPerSecond: "40M", flush: "4ms" },
  },
  cloud: {
    name: "cloud",
    description: "a volume over a network: half a millisecond away, 250 MB/s",
    channels: 64,
    queueDepth: 256,
    latency: {
      read: { median: "500us", sigma: 0.3, most: "30ms" },
      write: { median: "800us", sigma: 0.35, most: "40ms" },
      zero: { median: "800us", sigma: 0.35, most: "40ms" },
      discard: "1ms",
      flush: { median: "700us", sigma: 0.3, most: "30ms" },
    },
    bytesPerSecond: { total: 250_000_000 },
  },
  http: {
    name: "http",
    description: "a web server at 20 Mbit/s, 40 ms away",
    channels: 6,
    queueDepth: 6,
    latency: {
      read: { mean: "40ms", deviation: "4ms", least: "30ms" },
      write: "40ms",
      zero: "40ms",
      discard: "40ms",
      flush: "40ms",
    },
    bytesPerSecond: { total: 2_500_000 },
  },
};

/** A shipped model's name. */
export function isModelName(name: string): name is keyof typeof deviceModels {
  return Object.hasOwn(deviceModels, name);
}
