package components

// Every object names who manages its fields, the same at all times. Left to itself, Pulumi makes a
// name up for each object and remembers it in the state: without that state, the same object has two
// managers, and neither can change a field that the other owns too. It takes over what another manager
// has, by force: that is itself under such a name, or somebody's edit by hand.
const (
	FieldManagerAnnotation = "pulumi.com/patchFieldManager"
	FieldManager           = "pulumi-kubernetes-manager-cluster-state"
	ForceAnnotation        = "pulumi.com/patchForce"
)

// FieldManagement are the annotations of an object of some kind. A custom resource definition is replaced
// as a whole when it changes, by whoever, and can't lose the manager that it was made with.
func FieldManagement(kind string) map[string]string {
	annotations := map[string]string{ForceAnnotation: "true"}
	if kind != "CustomResourceDefinition" {
		annotations[FieldManagerAnnotation] = FieldManager
	}
	return annotations
}
