// A browser (Debian's chromium by npm's playwright-core) that its starter drives: one JSON object a line on the standard
// input, one answer a line on the standard output. Its starter says what is done and judges what is seen.

import * as fs from 'node:fs';
import * as http from 'node:http';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import * as readline from 'node:readline';

const options = JSON.parse(process.argv[2]);
const require = createRequire(path.join(options.modules, 'none.js'));
const { chromium } = require('playwright-core');
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await chromium.launch({
  executablePath: options.chromium,
  headless: true,
  chromiumSandbox: false,
  args: [
    '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--disable-dev-shm-usage',
  ],
});
const people = {}; // By name: { context, page, seen }.

/** A person: cookies, a window, and an account of what happened in it. */
async function come({ name, window }) {
  const context = await browser.newContext(window);
  context.setDefaultTimeout(options.wait_ms);
  const page = await context.newPage();
  const seen = { dialogs: [], errors: [], requests: [] };
  page.on('dialog', async (dialog) => {
    seen.dialogs.push(`${dialog.type()}: ${dialog.message()}`);
    await dialog.dismiss();
  });
  page.on('console', (message) => message.type() === 'error' && seen.errors.push(message.text()));
  page.on('pageerror', (error) => seen.errors.push(`uncaught: ${error.message}`));
  page.on('request', (request) => seen.requests.push(`${request.method()} ${request.url()}`));
  people[name] = { context, page, seen };
  return {};
}

/** What an accessibility checker finds on the page as it is: rule, how bad, and where. */
async function axe({ name }) {
  const { page } = people[name];
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, {
    resultTypes: ['violations', 'passes'],
  }));
  return {
    checked: passes.length,
    found: violations.map(({ id, impact, help, nodes }) => ({
      id, impact: impact ?? 'unknown', help, where: nodes.map((node) => node.target.flat().join(' ')),
    })),
  };
}

/** A request with a person's cookies that no page made. */
async function ask({ name, method, url, headers, body }) {
  const { context } = people[name];
  const response = await context.request.fetch(url, { method, headers, data: body, maxRedirects: 0 });
  return { status: response.status(), headers: response.headers(), text: await response.text() };
}

/** A page of somebody else's, on an origin of its own. */
async function strange({ html }) {
  const server = http.createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
    response.end(html);
  });
  await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
  return { port: server.address().port };
}

const commands = {
  come,
  axe,
  ask,
  strange,
  go: async ({ name, url }) => {
    // None where the page, which asks for news, was on its way elsewhere itself.
    let response = null;
    for (let tries = 0; !response && tries < 5; tries += 1) {
      response = await people[name].page.goto(url).catch((error) => {
        if (!error.message.includes('is interrupted by another navigation')) throw error;
        return null;
      });
    }
    return { status: response.status(), url: response.url(), headers: await response.allHeaders() };
  },
  // What Playwright's own pages, contexts and locators do, by the names of their methods.
  page: ({ name, method, args }) => people[name].page[method](...args),
  context: ({ name, method, args }) => people[name].context[method](...args),
  at: ({ name, selector, method, args }) => people[name].page.locator(selector)[method](...args),
  press: ({ name, key }) => people[name].page.keyboard.press(key),
  type: ({ name, text }) => people[name].page.keyboard.type(text),
  frames: ({ name }) => Promise.all(people[name].page.frames().map(async (frame) => (
    { url: frame.url(), text: await frame.locator('body').innerText().catch(() => '') }
  ))),
  seen: ({ name }) => people[name].seen,
  version: () => browser.version(),
};

console.log(JSON.stringify({ told: 'ready' }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    const told = await commands[command.do](command);
    console.log(JSON.stringify({ told: told?.constructor === Buffer ? null : told ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.message ?? error) }));
  }
}
await browser.close();
process.exit(0);
