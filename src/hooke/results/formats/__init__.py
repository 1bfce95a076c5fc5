"""Graphs in the forms that other tools read and write. Inside, a graph is a `Graph`, and in a result a `DrawnGraph`.

graph_file   the JSON form of circuit-tracer's and Neuronpedia's pages: reading it in any of its dialects
graph_write  the same: writing it
graph_check  whether those pages will open a file
graph_labels numbers and labels in it
"""
