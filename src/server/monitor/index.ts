/**
 * The monitor's face: sessions, the registry of commands, and the client.
 */
export { QmpClient, type QmpConnectOptions } from "./client.ts";
export { QmpClientEvent, type AnyClientEvent, type ClientEvent } from "./client.ts";
export {
  CommandRegistry,
  type CommandContext,
  type CommandHandler,
  type CommandHandlers,
} from "./registry.ts";
export { serveMonitor } from "./session.ts";
export { QmpSession, type QmpSessionOptions, type QmpSessionState } from "./session.ts";
