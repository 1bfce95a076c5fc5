"""The verbs: one file each, one public function each, and the parts they share."""
