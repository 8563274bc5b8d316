package workloads_test

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// permission is one rule of a role that is installed, or of a role of Kubernetes's own that is bound.
type permission struct {
	role, may, where string
	who              []string // sorted
}

func (p permission) key() string { return p.role + ": " + p.may }

// reason is an entry of docs/rbac.yaml.
type reason struct {
	Role  string   `json:"role"`
	Who   []string `json:"who"`
	Rules []struct {
		May string `json:"may"`
		Why string `json:"why"`
	} `json:"rules"`
}

// permissions are those of every stack in every delivery and on each side of the pivot, each once.
func permissions(t *testing.T) []permission {
	t.Helper()
	found := map[string]permission{}
	all := variants(t)
	for name, cfg := range maps.Clone(all) {
		all[name+"-from-git"] = fromGit(cfg)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		made := catalog(t, all[name])
		for _, p := range permissionsOf(made) {
			// A stack without a controller has it in no binding: what is listed is all who have it anywhere.
			p.who = slices.Concat(p.who, found[p.key()+p.where].who)
			slices.Sort(p.who)
			p.who = slices.Compact(p.who)
			found[p.key()+p.where] = p
		}
	}
	list := slices.Collect(maps.Values(found))
	slices.SortFunc(list, func(a, b permission) int {
		return cmp.Or(slices.Compare(a.who, b.who), cmp.Compare(a.role, b.role), cmp.Compare(a.may, b.may))
	})
	return list
}

func permissionsOf(made []workloads.Workload) []permission {
	bound := map[string][]string{} // subjects by role
	cluster := func(name string) string { return "ClusterRole " + name }
	local := func(namespace, name string) string { return "Role " + namespace + "/" + name }
	ownRoles := map[string]bool{}
	var list []permission
	bind := func(role string, subjects []rbacv1.Subject) {
		for _, subject := range subjects {
			bound[role] = append(bound[role], strings.TrimPrefix(subject.Namespace+"/"+subject.Name, "/"))
		}
	}
	for _, binding := range of[*rbacv1.ClusterRoleBinding](made) {
		bind(cluster(binding.RoleRef.Name), binding.Subjects)
	}
	for _, binding := range of[*rbacv1.RoleBinding](made) {
		role := local(binding.Namespace, binding.RoleRef.Name)
		if binding.RoleRef.Kind == "ClusterRole" {
			role = cluster(binding.RoleRef.Name)
		}
		bind(role, binding.Subjects)
	}
	add := func(role, where string, rules []rbacv1.PolicyRule, labels map[string]string) {
		ownRoles[role] = true
		for _, rule := range rules {
			list = append(list, permission{role: role, may: inWords(rule), who: whoHas(bound[role], labels), where: where})
		}
	}
	for _, role := range of[*rbacv1.ClusterRole](made) {
		add(cluster(role.Name), "everywhere", role.Rules, role.Labels)
	}
	for _, role := range of[*rbacv1.Role](made) {
		add(local(role.Namespace, role.Name), "in "+role.Namespace, role.Rules, nil)
	}
	for _, role := range slices.Sorted(maps.Keys(bound)) {
		if !ownRoles[role] {
			list = append(list, permission{role: role, may: "what Kubernetes's own role of that name may", who: whoHas(bound[role], nil), where: "everywhere"})
		}
	}
	return list
}

// whoHas are those whom a role is bound to, and the roles that it is added to.
func whoHas(subjects []string, labels map[string]string) []string {
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if added, found := strings.CutPrefix(label, "rbac.authorization.k8s.io/aggregate-to-"); found {
			subjects = append(subjects, "whoever has the role "+added)
		}
	}
	return slices.Sorted(slices.Values(subjects))
}

// inWords is a rule as a sentence's end: get, list secrets.
func inWords(rule rbacv1.PolicyRule) string {
	verbs := strings.Join(rule.Verbs, ", ")
	if len(rule.NonResourceURLs) > 0 {
		return verbs + " " + strings.Join(rule.NonResourceURLs, ", ")
	}
	var resources []string
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			resources = append(resources, strings.TrimSuffix(resource+"."+group, "."))
		}
	}
	text := verbs + " " + strings.Join(resources, ", ")
	if len(rule.ResourceNames) > 0 {
		text += " named " + strings.Join(rule.ResourceNames, ", ")
	}
	return text
}

// docs/rbac.yaml has who may have each role and a reason for each rule, written by hand; docs/rbac.md has both, in
// tables that are generated.
func TestRBAC_EveryRuleHasAReasonAndEveryReasonARule(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "docs", "rbac.yaml"))
	require.NoError(t, err)
	var reasons []reason
	require.NoError(t, yaml.UnmarshalStrict(data, &reasons))
	why, who := map[string]string{}, map[string][]string{}
	for _, reason := range reasons {
		assert.NotContains(t, who, reason.Role, "it stands there twice")
		who[reason.Role] = slices.Sorted(slices.Values(reason.Who))
		for _, rule := range reason.Rules {
			key := permission{role: reason.Role, may: rule.May}.key()
			assert.NotEmpty(t, strings.TrimSpace(rule.Why), key)
			assert.NotContains(t, why, key, "it stands there twice")
			why[key] = rule.Why
		}
	}
	var rows, roles [][]string
	all := permissions(t)
	for _, p := range all {
		reason, found := why[p.key()]
		assert.True(t, found, "docs/rbac.yaml has no reason for this rule:\n- role: %s\n  rules:\n    - may: %q\n      why:", p.role, p.may)
		assert.Equal(t, who[p.role], p.who, "docs/rbac.yaml says of others that they have %s", p.role)
		rows = append(rows, []string{p.role, strings.ReplaceAll(p.may, "*", `\*`), strings.TrimSpace(reason)})
		if row := []string{p.role, p.where, strings.Join(p.who, ", ")}; len(roles) == 0 || roles[len(roles)-1][0] != p.role {
			roles = append(roles, row)
		}
	}
	for _, p := range all {
		delete(why, p.key())
	}
	assert.Empty(t, why, "reasons in docs/rbac.yaml whose rule is gone")

	path := filepath.Join("..", "docs", "rbac.md")
	tables := map[string]string{
		"rules":    report.Table([]string{"role", "may", "why"}, rows),
		"roles":    report.Table([]string{"role", "where", "who has it"}, roles),
		"accounts": report.Table([]string{"account", "its pods have its token"}, accounts(t)),
	}
	for part, table := range tables {
		if *update {
			require.NoError(t, report.ReplaceInFile(path, part, table))
			continue
		}
		document, err := os.ReadFile(path)
		require.NoError(t, err)
		current, err := report.Replace(string(document), part, table)
		require.NoError(t, err)
		assert.Equal(t, current, string(document), "run make generate")
	}
}

// accounts are those of all pods, and whether they can use what they may.
func accounts(t *testing.T) [][]string {
	t.Helper()
	found := map[string]string{}
	for _, cfg := range variants(t) {
		for _, made := range [][]workloads.Workload{catalog(t, cfg), catalog(t, fromGit(cfg))} {
			for _, deployment := range of[*appsv1.Deployment](made) {
				has := "no"
				if tokenGiven(made, deployment) {
					has = "yes"
				}
				found[accountOf(deployment)] = has
			}
		}
	}
	var rows [][]string
	for _, account := range slices.Sorted(maps.Keys(found)) {
		rows = append(rows, []string{account, found[account]})
	}
	return rows
}

func accountOf(deployment *appsv1.Deployment) string {
	return deployment.Namespace + "/" + cmp.Or(deployment.Spec.Template.Spec.ServiceAccountName, "default")
}

// tokenGiven: the pod decides, then its account; then there is one.
func tokenGiven(made []workloads.Workload, deployment *appsv1.Deployment) bool {
	pod := deployment.Spec.Template.Spec
	for _, volume := range pod.Volumes {
		if volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
			return true
		}
	}
	if pod.AutomountServiceAccountToken != nil {
		return *pod.AutomountServiceAccountToken
	}
	for _, account := range of[*corev1.ServiceAccount](made) {
		if account.Namespace == deployment.Namespace && account.Name == pod.ServiceAccountName && account.AutomountServiceAccountToken != nil {
			return *account.AutomountServiceAccountToken
		}
	}
	return true
}

// Who may do nothing needs no token, and who has one has a reason to.
func TestRBAC_OnlyPodsThatMayDoSomethingHaveAToken(t *testing.T) {
	eachStack(t, func(t *testing.T, made []workloads.Workload) {
		bound := map[string]bool{}
		for _, p := range permissionsOf(made) {
			for _, who := range p.who {
				bound[who] = true
			}
		}
		for _, deployment := range of[*appsv1.Deployment](made) {
			assert.Equal(t, bound[accountOf(deployment)], tokenGiven(made, deployment), deployment.Name)
		}
	})
}
