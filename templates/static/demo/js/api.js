// The REST routes that the page uses, and the envelope around their answers.

export class ApiError extends Error {
  /** `code` is the catalogue's, or `unreachable` when there was no answer; `retryable`: the same may work later. */
  constructor({ code, message, status = 0, retryable = false }) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryable = retryable;
  }
}

export class Api {
  #credentials;
  #onCall;

  /** `credentials` as of Account.credentialsOf; `onCall` is told of every answer. */
  constructor({ credentials, onCall = () => {} }) {
    this.#credentials = credentials;
    this.#onCall = onCall;
  }

  /** All conversations of a user, by last activity. */
  async conversations(userId) {
    const found = [];
    let cursor = null;
    do {
      const answer = await this.#call('GET', `/users/${encodeURIComponent(userId)}/conversations`, {
        query: { limit: 100, cursor },
      });
      found.push(...answer.data);
      cursor = answer.pagination.hasMore ? answer.pagination.nextCursor : null;
    } while (cursor);
    return found;
  }

  async conversation(id) {
    return (await this.#call('GET', `/conversations/${encodeURIComponent(id)}`)).data;
  }

  /** `{messages: oldest first, pagination: {hasMore: an older one exists, …}}`. */
  async history(conversationId, { limit, beforeSeq = null, afterSeq = null }) {
    const path = `/messages/conversations/${encodeURIComponent(conversationId)}`;
    return (await this.#call('GET', path, { query: { limit, beforeSeq, afterSeq } })).data;
  }

  async user(id) {
    return (await this.#call('GET', `/users/${encodeURIComponent(id)}`)).data;
  }

  async createConversation(body) {
    return (await this.#call('POST', '/messages/conversations', { body })).data;
  }

  async #call(method, path, { query = {}, body } = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== null);
    const url = `/api/v1${path}${given.length ? `?${new URLSearchParams(given)}` : ''}`;
    let answer = await this.#fetch(method, url, body, await this.#asked({}));
    if (answer.status === 401) answer = await this.#fetch(method, url, body, await this.#asked({ stale: true }));
    const content = await answer.json().catch(() => null);
    if (answer.ok && content?.success) return content;
    const error = content?.error ?? { code: 'unreadable', message: `${answer.status} ${answer.statusText}` };
    throw new ApiError({ ...error, status: answer.status, retryable: error.retryable ?? answer.status >= 500 });
  }

  async #asked(how) {
    try {
      return await this.#credentials(how);
    } catch (error) {
      throw new ApiError({ code: 'unreachable', message: String(error), retryable: true });
    }
  }

  async #fetch(method, url, body, { apiKey, token }) {
    const headers = { 'X-API-Key': apiKey, Authorization: `Bearer ${token}`, Accept: 'application/json' };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const began = performance.now();
    try {
      const answer = await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(15_000),
      });
      this.#onCall({ method, url, status: answer.status, ms: Math.round(performance.now() - began), body });
      return answer;
    } catch (error) {
      this.#onCall({ method, url, status: 0, ms: Math.round(performance.now() - began), body });
      throw new ApiError({ code: 'unreachable', message: String(error), retryable: true });
    }
  }
}
