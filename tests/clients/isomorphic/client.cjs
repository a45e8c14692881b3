// isomorphic-git as a client: first push, clone, fetch, push, a shallow clone, a refused push. Run by scripts/test-clients.sh.
const assert = require('node:assert')
const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const git = require('isomorphic-git')
const http = require('isomorphic-git/http/node')

const [url, write, read, scratch] = process.argv.slice(2)
const author = { name: 'tester', email: 'tester@localhost' }
// It is asked once; a second question would mean that the answer was no good.
const withToken = (token) => ({
  onAuth: () => ({ username: 'x', password: token }),
  onAuthFailure: () => ({ cancel: true }),
})

async function commit(dir, text) {
  fs.writeFileSync(path.join(dir, 'file'), text)
  await git.add({ fs, dir, filepath: 'file' })
  return git.commit({ fs, dir, message: text.slice(0, 20), author })
}

async function main() {
  const one = path.join(scratch, 'one')
  const two = path.join(scratch, 'two')
  await git.init({ fs, dir: one, defaultBranch: 'main' })
  const first = await commit(one, crypto.randomBytes(200000).toString('hex'))
  const push = (token, remoteRef = 'main') => git.push({ fs, http, dir: one, url, ref: 'main', remoteRef, ...withToken(token) })
  assert.ok((await push(write)).ok)
  console.log('ok - first push')

  await git.clone({ fs, http, dir: two, url, ...withToken(read) })
  assert.strictEqual(await git.resolveRef({ fs, dir: two, ref: 'HEAD' }), first)
  console.log('ok - clone')

  const second = await commit(one, 'second')
  assert.ok((await push(write)).ok)
  await git.fetch({ fs, http, dir: two, url, ref: 'main', ...withToken(read) })
  assert.strictEqual(await git.resolveRef({ fs, dir: two, ref: 'refs/remotes/origin/main' }), second)
  console.log('ok - push and fetch')

  await commit(one, 'third')
  assert.ok((await push(write)).ok)
  const three = path.join(scratch, 'three')
  const history = async () => (await git.log({ fs, dir: three, ref: 'refs/remotes/origin/main' })).length
  const fetch = (how) => git.fetch({ fs, http, dir: three, url, ref: 'main', singleBranch: true, ...how, ...withToken(read) })
  await git.clone({ fs, http, dir: three, url, depth: 1, ...withToken(read) })
  assert.strictEqual(await history(), 1)
  console.log('ok - shallow clone')
  await fetch({ depth: 1, relative: true })
  assert.strictEqual(await history(), 2)
  await fetch({ depth: 2147483647 })
  assert.strictEqual(await history(), 3)
  console.log('ok - deepened, and completed')

  await assert.rejects(push(read, 'refs/heads/refused'), (error) => error.data?.statusCode === 403)
  console.log('ok - a read token cannot push')
}

main().catch((error) => {
  console.error('not ok -', error)
  process.exit(1)
})
