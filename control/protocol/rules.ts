/*
 * What tenants may share: nothing but what a rule of the specification says. For the control domain and for Node, like
 * planner.ts.
 */

/* What a rule may let two tenants share. */
export const SHARE_NETWORKS: string = "networks";
export const SHARE_CORES: string = "cores";
export const SHARE_CACHES: string = "caches";
export const SHARES: string[] = [SHARE_NETWORKS, SHARE_CORES, SHARE_CACHES];

/** These tenants may share these things, each with each. */
export class ShareRule {
  tenants: string[] = [];
  share: string[] = [];
}

/** Rules of a host, and tenants of one, at most: all of them fit into a frame. */
export const MAX_RULES: i32 = 12;
export const MAX_RULE_TENANTS: i32 = 4;

/** Whether two tenants, which may be one, may share something. */
export function mayShare(rules: ShareRule[], one: string, other: string, what: string): boolean {
  if (one == other) return true;
  for (let i = 0; i < rules.length; i++) {
    const rule = rules[i] as ShareRule;
    if (rule.share.indexOf(what) < 0) continue;
    if (rule.tenants.indexOf(one) >= 0 && rule.tenants.indexOf(other) >= 0) return true;
  }
  return false;
}

/** A rule that would be missing, as a specification has it. */
export function ruleText(one: string, other: string, what: string): string {
  return "{tenants: [" + one + ", " + other + "], share: [" + what + "]}";
}
