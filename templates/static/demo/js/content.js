// What a message or a conversation is called or says, in plain text.

import { t } from './strings.js';

export function userName(user) {
  return user?.displayName ?? user?.externalUserId ?? t('someone');
}

/** A message's text; for what this page cannot show, its kind. */
export function messageText(message) {
  if (message.deletedAt) return t('deleted');
  if (message.type === 'text') return message.content.text ?? '';
  return t('notShown', { type: message.type });
}

export function conversationTitle(conversation, ownId) {
  if (conversation.title) return conversation.title;
  const others = conversation.participants.filter(({ userId }) => userId !== ownId).map(({ user }) => userName(user));
  return others.join(', ') || t('group');
}

/** The one other person of a direct conversation. */
export function partnerOf(conversation, ownId) {
  if (conversation.type !== 'direct') return null;
  return conversation.participants.find(({ userId }) => userId !== ownId)?.user ?? null;
}
