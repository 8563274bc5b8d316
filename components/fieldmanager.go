package components

// Every object names who manages its fields, the same at all times. Left to itself, Pulumi makes a
// name up for each object and remembers it in the state: without that state, the same object has two
// managers, and neither can change a field that the other owns too.
const (
	FieldManagerAnnotation = "pulumi.com/patchFieldManager"
	FieldManager           = "pulumi-kubernetes-manager-cluster-state"
)
