/* Loops of libraries, for cppcheck, which does not see their headers. */
#define mnl_attr_for_each(attr, nlh, offset) for (attr = first(nlh, offset); attr; attr = next(attr))
#define cJSON_ArrayForEach(element, array) for (element = (array)->child; element; element = element->next)
