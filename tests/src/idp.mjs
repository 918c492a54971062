// An OpenID provider (npm oidc-provider) that its starter tells what its users do: one JSON object a line on the
// standard input, one answer a line on the standard output. Users approve, refuse and log out by its own pages; who
// comes with a browser of their own proves by a password who they are.

import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import * as readline from 'node:readline';
import { pathToFileURL } from 'node:url';

const options = JSON.parse(process.argv[2]);
const require = createRequire(path.join(options.modules, 'none.js'));
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { Provider } = await load('oidc-provider');
const jose = await load('jose');

const issuer = `${options.tls ? 'https' : 'http'}://127.0.0.1:${options.port}`;
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const RESOURCES = {
  'https://bank.example/api': 'RS256',
  'https://bank.example/es': 'ES256',
  'https://bank.example/ed': 'EdDSA',
};

const users = {
  alice: { name: 'Alice', groups: ['staff'] },
  carl: { name: 'Carl', groups: ['contractors'] },
  dana: { name: 'Dana', groups: ['dba'] },
  ruth: { name: 'Ruth', groups: ['risk'] },
};
const seen = { discovery: 0, jwks: 0, introspections: 0, backchannel: 0, backchannel_errors: [] };
const jars = {};
const ttl = { access: 600, device: 60 };
let plain = false; // Whether access tokens are typed as Keycloak's are.
let backchannel = options.backchannel ?? undefined;
let redirects = []; // Where `vestibule` has browsers sent back to.

// ---- keys ----

let generation = 0;
let keys = []; // { kid, alg, privateKey, publicKey, published, signs }

function addKeys() {
  generation += 1;
  const add = (alg, type, parameters) => {
    const pair = crypto.generateKeyPairSync(type, parameters);
    keys.push({ kid: `${alg}-${generation}`, alg, ...pair, signs: true });
  };
  for (const key of keys) key.signs = false;
  add('RS256', 'rsa', { modulusLength: 2048 });
  add('ES256', 'ec', { namedCurve: 'P-256' });
  add('EdDSA', 'ed25519', {});
}

function jwks() {
  // The first that fits signs.
  const ordered = [...keys].sort((a, b) => Number(b.signs) - Number(a.signs));
  return {
    keys: ordered.map(({ kid, alg, privateKey }) => ({
      ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig',
    })),
  };
}

function localKeys() {
  return jose.createLocalJWKSet({ keys: jwks().keys.map(({ d, p, q, dp, dq, qi, ...rest }) => rest) });
}

// ---- what it has issued ----

const issued = new Map();

/** The provider's store: kept while the provider is made anew with other keys. */
class Store {
  constructor(kind) { this.kind = kind; }

  async upsert(id, payload, seconds) {
    issued.set(`${this.kind}:${id}`, { ...payload, until: seconds ? Date.now() + seconds * 1000 : Infinity });
  }

  async find(id) {
    const found = issued.get(`${this.kind}:${id}`);
    return found && found.until > Date.now() ? found : undefined;
  }

  by(name, value) {
    for (const [key, found] of issued) if (key.startsWith(`${this.kind}:`) && found[name] === value) return found;
    return undefined;
  }

  async findByUid(uid) { return this.by('uid', uid); }

  async findByUserCode(code) { return this.by('userCode', code); }

  async consume(id) { issued.get(`${this.kind}:${id}`).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { issued.delete(`${this.kind}:${id}`); }

  async revokeByGrantId(grant) {
    for (const [key, { grantId }] of issued) if (grantId === grant) issued.delete(key);
  }
}

// ---- provider ----

function client(id, secret, grants, more = {}) {
  return {
    client_id: id,
    ...(secret ? { client_secret: secret } : {}),
    token_endpoint_auth_method: secret ? 'client_secret_basic' : 'none',
    grant_types: grants,
    redirect_uris: [],
    response_types: [],
    backchannel_logout_session_required: true,
    require_auth_time: true,
    ...(backchannel ? { backchannel_logout_uri: backchannel } : {}),
    ...more,
  };
}

const byCode = () => (redirects.length ? ['authorization_code'] : []);

const AT_HOME = 'bank operations';

function configuration() {
  return {
    adapter: Store,
    clients: [
      client('vestibule', options.secret, [DEVICE, EXCHANGE, 'refresh_token', 'client_credentials', ...byCode()], {
        redirect_uris: redirects, response_types: redirects.length ? ['code'] : [],
      }),
      client('vestibule-cli', undefined, [DEVICE, 'refresh_token']),
      client('report-agent', options.secret, ['client_credentials', EXCHANGE]),
    ],
    jwks: jwks(),
    cookies: { keys: [options.secret] },
    scopes: ['openid', 'offline_access', ...AT_HOME.split(' ')],
    claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    findAccount: (_, id) => users[id] && {
      accountId: id,
      claims: async () => ({ sub: id, ...users[id] }),
    },
    extraTokenClaims: (_, token) => ({
      ...(users[token.accountId] ?? {}),
      ...(token.act ? { act: token.act } : {}),
    }),
    loadExistingGrant: async (ctx) => {
      const { Grant } = ctx.oidc.provider;
      const { clientId } = ctx.oidc.client;
      // A session's second login goes on with its first one's grant.
      const before = ctx.oidc.session.grantIdFor(clientId);
      const found = before && await Grant.find(before);
      if (found) return found;
      const grant = new Grant({ clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope(`openid profile groups offline_access ${AT_HOME}`);
      for (const resource of Object.keys(RESOURCES)) grant.addResourceScope(resource, AT_HOME);
      await grant.save();
      return grant;
    },
    formats: {
      customizers: {
        jwt: (_, token, structured) => {
          if (!plain) return;
          structured.header = { typ: 'JWT' };
          const { client_id, ...rest } = structured.payload;
          structured.payload = { ...rest, azp: client_id, typ: 'Bearer' };
        },
      },
    },
    issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    // The provider's own refuses loopback addresses.
    fetch: (url, options) => {
      const { dispatcher, ...rest } = options;
      return globalThis.fetch(url, rest);
    },
    ttl: {
      AccessToken: () => ttl.access, ClientCredentials: () => ttl.access, DeviceCode: () => ttl.device,
      IdToken: 600, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 60,
    },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: {
        enabled: true,
        userCodeInputSource: page,
        userCodeConfirmSource: page,
        successSource: (ctx) => page(ctx, 'done'),
      },
      rpInitiatedLogout: { enabled: true, logoutSource: page, postLogoutSuccessSource: (ctx) => page(ctx, 'done') },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      backchannelLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => resourceServer(resource),
      },
    },
  };
}

function page(ctx, form) {
  ctx.type = 'html';
  ctx.body = `<html>${form}</html>`;
}

function resourceServer(resource) {
  const alg = RESOURCES[resource];
  if (!alg) throw new Error('no such resource');
  return {
    scope: AT_HOME, audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: ttl.access, jwt: { sign: { alg } },
  };
}

let provider;

/** Makes the provider anew, with the keys and clients of now. */
function build() {
  provider = new Provider(issuer, configuration());
  provider.registerGrantType(EXCHANGE, exchange, [
    'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type',
    'audience', 'resource', 'scope',
  ]);
  provider.on('backchannel.success', () => { seen.backchannel += 1; });
  provider.on('backchannel.error', (_, error) => seen.backchannel_errors.push(String(error)));
  provider.on('server_error', (_, error) => console.error(error));
  callback = provider.callback();
}
let callback;

/** RFC 8693: the client acts for the subject of the subject_token; its own `act` is nested below. */
async function exchange(ctx) {
  const { params, client } = ctx.oidc;
  const fail = (error, error_description) => {
    ctx.status = 400;
    ctx.body = { error, error_description };
  };
  const read = async (token) => (await jose.jwtVerify(token, localKeys(), { issuer, typ: 'at+jwt' })).payload;
  let subject;
  let actor = { sub: client.clientId, client_id: client.clientId, iss: issuer };
  try {
    subject = await read(params.subject_token);
    if (params.actor_token) {
      const { sub, client_id, act } = await read(params.actor_token);
      actor = { sub, client_id, iss: issuer, act };
    }
  } catch (error) {
    return fail('invalid_request', `a token is not valid: ${error.code}`);
  }
  const resource = params.resource ?? 'https://bank.example/api';
  if (!RESOURCES[resource]) return fail('invalid_target', 'no such resource');
  const act = { ...actor, ...(subject.act ? { act: subject.act } : {}) };
  const token = new provider.AccessToken({
    accountId: subject.sub, client, scope: 'bank', gty: 'token_exchange', grantId: undefined,
  });
  token.resourceServer = new provider.ResourceServer(resource, resourceServer(resource));
  token.act = act;
  const value = await token.save();
  ctx.body = {
    access_token: value,
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    expires_in: token.expiration,
    scope: 'bank',
  };
}

// ---- server ----

/** RFC 7662 and RFC 7009 for JWTs, of which this provider keeps no account where others do; true if it was one. */
async function account(request, response) {
  let body = '';
  for await (const chunk of request) body += chunk;
  request.body = body; // For the provider, which takes what was read for it.
  const [header, payload, signature] = (new URLSearchParams(body).get('token') ?? '').split('.');
  if (!signature) return false;
  const say = (status, told) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(told));
    return true;
  };
  const secret = encodeURIComponent(options.secret).replaceAll("'", '%27');
  const known = ['vestibule', 'report-agent'].map((id) => `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`);
  if (!known.includes(request.headers.authorization)) return say(401, { error: 'invalid_client' });
  const token = `${header}.${payload}.${signature}`;
  let claims;
  try {
    ({ payload: claims } = await jose.jwtVerify(token, localKeys(), { issuer }));
  } catch {
    return request.url.endsWith('/revocation') ? say(200, {}) : say(200, { active: false });
  }
  const id = claims.jti ?? token;
  if (request.url.endsWith('/revocation')) {
    revoked.add(id);
    return say(200, {});
  }
  if (revoked.has(id) || revoked.has(claims.sub)) return say(200, { active: false });
  const { sub, client_id, exp, iat, iss } = claims;
  // The groups of now, not those of when it was issued.
  return say(200, { active: true, sub, client_id, exp, iat, iss, groups: users[sub]?.groups });
}
const revoked = new Set(); // Ids of tokens, and users.
let accounts = false;

async function serve(request, response) {
  const asks = request.url === '/token/introspection' || request.url === '/token/revocation';
  if (request.url === '/token/introspection') seen.introspections += 1;
  if (accounts && asks && await account(request, response)) return undefined;
  if (request.url === '/.well-known/openid-configuration') seen.discovery += 1;
  if (request.url === '/jwks') seen.jwks += 1;
  if (!request.url.startsWith('/interaction/')) return callback(request, response);
  try {
    // The users here say who they are; there is nothing to prove. Others are asked.
    const as = /(?:^|; )as=(\w+)/.exec(request.headers.cookie ?? '')?.[1] ?? await proven(request, response);
    return as && await provider.interactionFinished(request, response, { login: { accountId: as } });
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    return response.end();
  }
}

/** Who proves by a password who they are; undefined where they are asked (again). */
async function proven(request, response) {
  let body = '';
  for await (const chunk of request) body += chunk;
  const { user, password } = Object.fromEntries(new URLSearchParams(body));
  if (users[user] && password === options.password) return user;
  response.writeHead(user ? 401 : 200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><html lang="en"><title>Sign in</title><h1>The bank's provider</h1>
    ${user ? '<p role="alert">Nobody is known by that name and password.</p>' : ''}
    <form method="post"><label>User <input name="user" autocomplete="username" autofocus></label>
    <label>Password <input name="password" type="password" autocomplete="current-password"></label>
    <button>Sign in</button></form></html>`);
  return undefined;
}

const server = options.tls
  ? https.createServer({ cert: fs.readFileSync(options.tls.cert), key: fs.readFileSync(options.tls.key) }, serve)
  : http.createServer(serve);

// ---- users ----

/** Does what a browser does: cookies, redirections, and the one form of the page. */
async function browse(user, url, form) {
  const jar = (jars[user] ??= new Map([['as', user]]));
  let target = new URL(url, issuer);
  for (let hops = 0; hops < 12; hops += 1) {
    const response = await fetch(target, {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      redirect: 'manual',
      headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value === '') jar.delete(name); else jar.set(name, value);
    }
    if (![302, 303].includes(response.status)) return { status: response.status, text: await response.text() };
    form = undefined;
    target = new URL(response.headers.get('location'), target);
  }
  throw new Error('too many redirections');
}

const xsrfOf = (text) => /name="xsrf" value="([^"]+)"/.exec(text)[1];

async function device(user, user_code, confirm) {
  const first = await browse(user, '/device');
  const second = await browse(user, '/device', { xsrf: xsrfOf(first.text), user_code });
  const third = await browse(user, '/device', { xsrf: xsrfOf(second.text), user_code, ...confirm });
  return { status: third.status };
}

async function post(path, form) {
  const basic = Buffer.from(`vestibule:${encodeURIComponent(options.secret)}`).toString('base64');
  const response = await fetch(new URL(path, issuer), {
    method: 'POST', body: new URLSearchParams(form), headers: { authorization: `Basic ${basic}` },
  });
  return response.json();
}

/** A whole device flow: what the client `vestibule` has when the user has approved. */
async function login({ user, scope, resource }) {
  const { device_code, user_code } = await post('/device/auth', { client_id: 'vestibule', scope, resource });
  await device(user, user_code, { confirm: 'yes' });
  return post('/token', { grant_type: DEVICE, device_code });
}

// ---- commands ----

const encode = (text) => Buffer.from(text).toString('base64url');

const commands = {
  approve: ({ user, user_code }) => device(user, user_code, { confirm: 'yes' }),
  deny: ({ user, user_code }) => device(user, user_code, { abort: 'yes' }),
  login,
  account: () => { accounts = true; return {}; },
  revoke: ({ what }) => { revoked.add(what); return {}; },
  logout: async ({ user }) => {
    const before = { ...seen, errors: seen.backchannel_errors.length };
    const first = await browse(user, '/session/end');
    await browse(user, '/session/end/confirm', { xsrf: xsrfOf(first.text), logout: 'yes' });
    return {
      sent: seen.backchannel - before.backchannel,
      errors: seen.backchannel_errors.slice(before.errors),
    };
  },
  groups: ({ user, groups }) => { users[user].groups = groups; return {}; },
  name: ({ user, name }) => { users[user].name = name; return {}; },
  redirects: ({ uris }) => { redirects = uris; build(); return {}; },
  backchannel: ({ uri }) => { backchannel = uri; build(); return {}; },
  ttl: ({ what, seconds }) => { ttl[what] = seconds; return {}; },
  plain: () => { plain = true; return {}; },
  rotate: ({ keep }) => { if (!keep) keys = []; addKeys(); build(); return { generation }; },
  seen: () => seen,
  // Signs what it is given with the newest key of its kind: header and payload are texts, sound or not.
  sign: ({ header, payload, key }) => {
    const input = `${encode(header)}.${encode(payload)}`;
    if (key === 'none') return { token: `${input}.` };
    const { privateKey, publicKey } = keys.findLast(({ alg }) => alg === (key === 'hmac' ? 'RS256' : key));
    if (key === 'hmac') {
      const secret = publicKey.export({ format: 'pem', type: 'spki' });
      return { token: `${input}.${crypto.createHmac('sha256', secret).update(input).digest('base64url')}` };
    }
    const how = key === 'ES256' ? { key: privateKey, dsaEncoding: 'ieee-p1363' } : privateKey;
    const signature = crypto.sign(key === 'EdDSA' ? null : 'sha256', Buffer.from(input), how);
    return { token: `${input}.${signature.toString('base64url')}` };
  },
};

addKeys();
build();
server.listen(options.port, '127.0.0.1', () => console.log(JSON.stringify({ listening: options.port })));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    console.log(JSON.stringify(await commands[command.do](command)));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
process.exit(0);
