// Every method of the public client for TypeScript (npm @onkernel/hypeman 0.28) against a daemon. Its compiler then checks
// that each answer has the type that the client declares: `null` is not what is absent.
//
// Usage: hypeman_calls.mjs FOLDER URL TOKEN ADDRESS IMAGE
//
// FOLDER has node_modules with the client and with typescript. ADDRESS is a GPU that is free and not registered, IMAGE a
// ready image.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const [folder, url, token, address, image] = process.argv.slice(2);
const require = createRequire(join(folder, 'package.json'));
const { Hypeman } = require('@onkernel/hypeman');
const client = new Hypeman({ apiKey: token, baseURL: url, maxRetries: 0, timeout: 60000 });
const { instances, devices, images } = client;
const OK = 'ok';
const NOT_OFFERED = '501 not_implemented';
// A tar archive without entries.
const archive = new Blob([gzipSync(Buffer.alloc(1024))]);

const table = [
  ['health.check', () => client.health.check(), OK],
  ['capabilities.get', () => client.capabilities.get(), OK],
  ['resources.get', () => client.resources.get(), OK],
  ['resources.reclaimMemory', () => client.resources.reclaimMemory({ reclaim_bytes: 1 }), NOT_OFFERED],
  ['devices.listAvailable', () => devices.listAvailable(), OK],
  ['devices.create', () => devices.create({ pci_address: address, name: 'calls-gpu', tags: { by: 'calls' } }), OK],
  ['devices.create', () => devices.create({ pci_address: address, name: '2xgpu' }), '400 invalid_name'],
  ['devices.retrieve', () => devices.retrieve('calls-gpu'), OK],
  ['devices.list', () => devices.list({ tags: { by: 'calls' } }), OK],
  ['images.create', () => images.create({ name: image }), OK],
  ['images.get', () => images.get(image), OK],
  ['images.list', () => images.list({ tags: { no: 'such' } }), OK],
  ['images.tag', () => images.tag(image, { target: 'other:1' }), NOT_OFFERED],
  ['images.delete', () => images.delete('none'), '404 not_found'],
  ['instances.create', () => instances.create({ name: 'vm', image, devices: ['calls-gpu'], tags: { by: 'calls' } }), OK],
  ['instances.create', () => instances.create({ name: 'b', image, overlay_size: '20GB', skip_guest_agent: true }), OK],
  ['instances.get', () => instances.get('vm'), OK],
  ['instances.list', () => instances.list({ tags: { by: 'calls' } }), OK],
  ['instances.update', () => instances.update('vm', { ttl: '1h' }), NOT_OFFERED],
  ['instances.wait', () => instances.wait('vm', { state: 'Running', timeout: '5s' }), OK],
  ['instances.logs', () => instances.logs('vm', { tail: 5 }), OK],
  ['instances.stat', () => instances.stat('vm', { path: '/etc' }), '409 invalid_state'],
  ['instances.stat', () => instances.stat('boxed', { path: '/etc', follow_links: true }), OK],
  ['instances.stats', () => instances.stats('vm'), OK],
  ['instances.standby', () => instances.standby('vm'), NOT_OFFERED],
  ['instances.restore', () => instances.restore('vm'), NOT_OFFERED],
  ['instances.fork', () => instances.fork('vm', { name: 'fork' }), NOT_OFFERED],
  ['instances.autoStandby.status', () => instances.autoStandby.status('vm'), NOT_OFFERED],
  ['instances.autoStandby.hold', () => instances.autoStandby.hold('vm'), NOT_OFFERED],
  ['instances.snapshots.create', () => instances.snapshots.create('vm', { kind: 'Standby' }), NOT_OFFERED],
  ['instances.snapshots.restore', () => instances.snapshots.restore('s', { id: 'vm' }), NOT_OFFERED],
  ['instances.snapshotSchedule.update', () => instances.snapshotSchedule.update('vm', { interval: '1h', retention: { max_count: 1 } }), NOT_OFFERED],
  ['instances.snapshotSchedule.get', () => instances.snapshotSchedule.get('vm'), NOT_OFFERED],
  ['instances.snapshotSchedule.delete', () => instances.snapshotSchedule.delete('vm'), NOT_OFFERED],
  ['instances.stop', () => instances.stop('vm'), OK],
  ['volumes.create', () => client.volumes.create({ name: 'v', size_gb: 1 }), OK],
  ['instances.volumes.attach', () => instances.volumes.attach('v', { id: 'vm', mount_path: '/v' }), OK],
  ['volumes.get', () => client.volumes.get('v'), OK],
  ['instances.volumes.detach', () => instances.volumes.detach('v', { id: 'vm' }), OK],
  ['instances.start', () => instances.start('vm', {}), OK],
  ['instances.delete', () => instances.delete('vm'), OK],
  ['instances.delete', () => instances.delete('b'), OK],
  ['devices.delete', () => devices.delete('calls-gpu'), OK],
  ['volumes.createFromArchive', () => client.volumes.createFromArchive(archive, { name: 'a', size_gb: 1 }), OK],
  ['volumes.createFromArchive', () => client.volumes.createFromArchive(new Blob(['x']), { name: 'b', size_gb: 1 }), '400 invalid_request'],
  ['volumes.delete', () => client.volumes.delete('a'), OK],
  ['volumes.list', () => client.volumes.list(), OK],
  ['volumes.get', () => client.volumes.get('none'), '404 not_found'],
  ['volumes.delete', () => client.volumes.delete('v'), OK],
  ['snapshots.list', () => client.snapshots.list(), NOT_OFFERED],
  ['snapshots.get', () => client.snapshots.get('s'), NOT_OFFERED],
  ['snapshots.fork', () => client.snapshots.fork('s', { name: 'f' }), NOT_OFFERED],
  ['snapshots.delete', () => client.snapshots.delete('s'), NOT_OFFERED],
  ['ingresses.create', () => client.ingresses.create({ name: 'i', rules: [] }), NOT_OFFERED],
  ['ingresses.list', () => client.ingresses.list(), NOT_OFFERED],
  ['ingresses.get', () => client.ingresses.get('i'), NOT_OFFERED],
  ['ingresses.delete', () => client.ingresses.delete('i'), NOT_OFFERED],
  ['builds.create', () => client.builds.create({ source: new File(['x'], 'x') }), NOT_OFFERED],
  ['builds.list', () => client.builds.list(), NOT_OFFERED],
  ['builds.get', () => client.builds.get('b'), NOT_OFFERED],
  ['builds.cancel', () => client.builds.cancel('b'), NOT_OFFERED],
  ['builds.events', () => client.builds.events('b'), NOT_OFFERED],
  ['builders.create', () => client.builders.create({}), NOT_OFFERED],
  ['builders.list', () => client.builders.list(), NOT_OFFERED],
  ['builders.get', () => client.builders.get('b'), NOT_OFFERED],
  ['builders.prune', () => client.builders.prune('b'), NOT_OFFERED],
  ['builders.delete', () => client.builders.delete('b'), NOT_OFFERED],
  ['pushes.create', () => client.pushes.create({ image, target: 't' }), NOT_OFFERED],
  ['pushes.list', () => client.pushes.list(), NOT_OFFERED],
  ['pushes.get', () => client.pushes.get('p'), NOT_OFFERED],
];

// The names of all methods of the client that make a request.
function* methods(of, path) {
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(of))) {
    if (name !== 'constructor') yield `${path}.${name}`;
  }
  yield* inner(of, `${path}.`);
}
function* inner(of, prefix) {
  for (const [name, value] of Object.entries(of)) {
    if (name !== '_client' && value?._client) yield* methods(value, prefix + name);
  }
}
const rows = new Set(table.map(([name]) => name));
const missing = [...inner(client, '')].filter((name) => !rows.has(name));
if (missing.length > 0) throw new Error(`methods without a row: ${missing}`);

const checks = [];
for (const [name, call, expected] of table) {
  let outcome = OK;
  let answer;
  try {
    answer = await call();
    if (name === 'instances.logs') {
      const lines = [];
      for await (const line of answer) lines.push(line);
      answer = undefined;
      if (!lines.every((line) => typeof line === 'string')) throw new Error(`${name}: ${lines}`);
    }
  } catch (error) {
    if (!error.status) throw error;
    outcome = `${error.status} ${error.error?.code}`;
  }
  if (outcome !== expected) throw new Error(`${name}: ${outcome} instead of ${expected}`);
  if (answer !== undefined && answer !== null) {
    const type = name.split('.').map((part) => `['${part}']`).join('');
    // Additional fields are allowed, but not in a literal: so each answer is a constant.
    const constant = `answer${checks.length}`;
    checks.push(`const ${constant} = ${JSON.stringify(answer)} as const;
is<Awaited<ReturnType<Hypeman${type}>>>(${constant});`);
  }
}
const program = `import { Hypeman } from '@onkernel/hypeman';
// Two of the client's types have the names of its classes, and so also their methods.
type Data<T> = { readonly [K in keyof T as T[K] extends Function ? never : K]: Deep<T[K]> };
type Deep<T> = T extends (infer E)[] ? readonly Deep<E>[] : T extends object ? Data<T> : T;
const is = <T>(answer: Deep<T>) => answer;
${checks.join('\n')}
`;
writeFileSync(join(folder, 'answers.ts'), program);
const compiler = require.resolve('typescript/bin/tsc');
const strict = ['--strict', '--exactOptionalPropertyTypes', '--noEmit', '--skipLibCheck', '--target', 'es2022'];
try {
  execFileSync(process.execPath, [compiler, ...strict, '--module', 'nodenext', '--types', 'node', 'answers.ts'], { cwd: folder });
} catch (error) {
  throw new Error(`an answer has not its type (${join(folder, 'answers.ts')}):\n${error.stdout}`);
}

// Copies, by what the client has for them: files and directories, into a guest and back.
const { cpToInstance, cpFromInstance } = require('@onkernel/hypeman/lib/cp');
const config = { baseURL: url, apiKey: token };
const here = mkdtempSync(join(folder, 'copies-'));
mkdirSync(join(here, 'sub'));
writeFileSync(join(here, 'sub', 'a'), 'x'.repeat(100000));
writeFileSync(join(here, 'b'), '');
await cpToInstance(config, { instanceId: 'boxed', srcPath: here, dstPath: '/srv/copied' });
await cpFromInstance(config, { instanceId: 'boxed', srcPath: '/srv/copied', dstPath: join(here, 'back') });
if (readFileSync(join(here, 'back', 'copied', 'sub', 'a'), 'utf8').length !== 100000) throw new Error('the copy is another');
const refused = (call) => call.then(() => { throw new Error('not refused'); }, (error) => error.message);
console.log(await refused(cpToInstance(config, { instanceId: 'boxed', srcPath: join(here, 'b'), dstPath: '/full/b' })));
console.log(await refused(cpFromInstance(config, { instanceId: 'boxed', srcPath: '/none', dstPath: join(here, 'none') })));
rmSync(here, { recursive: true });

// A command, as the client's command line does it: the WebSocket is that of its library.
const WebSocket = require('ws');
const command = (request, input) => new Promise((resolve, reject) => {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/instances/boxed/exec`, { headers: { Authorization: `Bearer ${token}` } });
  let output = '';
  socket.on('open', () => {
    socket.send(JSON.stringify(request));
    if (input) socket.send(Buffer.from(input));
  });
  socket.on('message', (data, isBinary) => {
    if (isBinary) output += data;
    if (isBinary && output === input) socket.close();
    if (!isBinary) resolve([output, JSON.parse(data).exitCode]);
  });
  socket.on('close', () => resolve([output, undefined]));
  socket.on('error', reject);
});
for (const [request, input, expected] of [
  [{ command: ['both'], tty: false }, undefined, ['out\nerr\n', 3]],
  [{ command: ['size'], tty: true, rows: 5, cols: 6, timeout: 1 }, undefined, ['5 6\n', 124]],
  [{ command: ['cat'], tty: false, env: { A: '1' }, cwd: '/srv' }, 'typed', ['typed', undefined]],
]) {
  const answer = await command(request, input);
  if (JSON.stringify(answer) !== JSON.stringify(expected)) throw new Error(`${request.command}: ${JSON.stringify(answer)}`);
}
console.log(`${table.length} calls of ${rows.size} methods, ${checks.length} answers of their types`);
