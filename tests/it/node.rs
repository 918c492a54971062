//! node-postgres: simple and prepared statements.

use integration::World;

#[test]
fn simple_and_prepared() {
    let world = World::start().unwrap();
    let script = "
const { Client } = require('pg');
(async () => {
  const c = new Client(); await c.connect();
  console.log((await c.query('SELECT id FROM customers WHERE id = 12')).rows[0].id);
  for (const id of [1, 2, 3])
    console.log((await c.query({ name: 'one', text: 'SELECT id, ssn FROM customers WHERE id = $1', values: [id] })).rows[0].id);
  for (const text of ['DROP TABLE customers', { name: 'bad', text: 'DELETE FROM customers WHERE $1', values: [true] }])
    try { await c.query(text); console.log('went through'); } catch (e) { console.log(e.code); }
  const r = (await c.query({ text: 'SELECT ssn FROM customers WHERE id = $1', values: [5] })).rows[0];
  console.log(/^\\d{3}-\\d{2}-\\d{4}$/.test(r.ssn));
  await c.end();
})().catch(e => { console.error(e); process.exit(1); });
";
    let seen = world.reader().node(script).unwrap().ok().unwrap();
    assert_eq!(seen, "12\n1\n2\n3\n42501\n42501\nfalse\n");
}
